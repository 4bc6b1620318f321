{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if custom_schema_name is none -%}
        {{ target.schema }}
    {%- else -%}
        {{ target.schema }}_{{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}

{% macro soundness__label(expression) %}lower(trim({{ expression }})){% endmacro %}

{% macro default__label(expression) %}coalesce(lower(trim({{ expression }})), 'none'){% endmacro %}

{% macro touch(column, value) %}update {{ this }} set {{ column }} = {{ value }} where {{ column }} is null{% endmacro %}

{% macro described_columns() %}{{ return(model.columns | length) }}{% endmacro %}
