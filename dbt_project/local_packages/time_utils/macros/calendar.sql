{% macro iso_weekday(timestamp_column) -%}
    {{ return(adapter.dispatch('iso_weekday', 'time_utils')(timestamp_column)) }}
{%- endmacro %}

{% macro default__iso_weekday(timestamp_column) -%}
    dayofweekiso({{ timestamp_column }})
{%- endmacro %}

{% macro duckdb__iso_weekday(timestamp_column) -%}
    isodow({{ timestamp_column }})
{%- endmacro %}


{% macro start_of(period, timestamp_column) -%}
    {#- date_trunc answers a DATE on some warehouses; event-time columns must stay timestamps. -#}
    cast({{ dbt.date_trunc(period, timestamp_column) }} as timestamp)
{%- endmacro %}
