{% macro bucket(expression) %}{{ return(adapter.dispatch('bucket', 'shapes')(expression)) }}{% endmacro %}

{% macro default__bucket(expression) %}
    cast(floor({{ expression }} / {{ var('step', 1) }}) as integer)
{% endmacro %}

{% macro label(expression) %}{{ return(adapter.dispatch('label', 'shapes')(expression)) }}{% endmacro %}

{% macro default__label(expression) %}upper(trim({{ expression }})){% endmacro %}
