{% macro cents(column) %}({{ rounded(column) }} * 100)::bigint{% endmacro %}

{% macro rounded(column) %}round({{ column }}, 2){% endmacro %}

{% macro unused(column) %}{{ column }}{% endmacro %}
