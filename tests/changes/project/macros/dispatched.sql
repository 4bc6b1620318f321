{% macro month_of(column) %}{{ return(adapter.dispatch('month_of')(column)) }}{% endmacro %}

{% macro default__month_of(column) %}date_trunc('month', {{ column }}){% endmacro %}

{% macro duckdb__month_of(column) %}date_trunc('month', {{ column }}::timestamp){% endmacro %}
