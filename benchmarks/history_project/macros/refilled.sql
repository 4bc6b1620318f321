{# A table that is emptied and filled again, so that grants and comments stay: made by hand. #}
{% materialization refilled, default %}
    {% set target_relation = this.incorporate(type='table') %}
    {% set existing = load_cached_relation(this) %}
    {% if existing is not none and (not existing.is_table or should_full_refresh()) %}
        {% do adapter.drop_relation(existing) %}
        {% set existing = none %}
    {% endif %}
    {% if existing is none %}
        {% call statement('main') %}create table {{ target_relation }} as ({{ sql }}){% endcall %}
    {% else %}
        {% call statement('empty') %}delete from {{ target_relation }}{% endcall %}
        {% call statement('main') %}insert into {{ target_relation }} ({{ sql }}){% endcall %}
    {% endif %}
    {% do adapter.commit() %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro factor() %}{{ env_var('HISTORY_FACTOR', '1') }}{% endmacro %}

{% macro hidden_factor() %}{{ env_var('HISTORY' ~ '_HIDDEN', '1') }}{% endmacro %}

{% macro window_of(column, first, last) %}
{%- if var(first, none) %}
    {{ column }} >= timestamp '{{ var(first) }}' and {{ column }} < timestamp '{{ var(last) }}'
{%- else %}
    true
{%- endif %}
{% endmacro %}
