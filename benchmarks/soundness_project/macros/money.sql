{# Amounts are kept in cents. #}
{% macro to_cents(column) %}cast(round({{ rounded(column) }} * 100) as bigint){% endmacro %}

{% macro rounded(column, digits=2) -%}
    round(coalesce({{ column }}, {{ default_amount() }}), {{ digits }})
{%- endmacro %}

{% macro default_amount() %}0{% endmacro %}

{% macro clean(column) %}nullif(lower(trim({{ column }})), ''){% endmacro %}

{% macro sums(names) %}
{%- for name in names %}
    sum(case when status = '{{ name }}' then cents else 0 end) as {{ name }}_cents
    {%- if not loop.last %},{% endif %}
{%- endfor %}
{% endmacro %}
