{#- A materialization that does nothing: the table stands already, and only lacks what dbt writes
    beside the rows. Given to dbt by dbt/operation.py. -#}
{% macro materialization_dbt_orchestration__as_built_default() %}
  {% set table = this.incorporate(type='table') %}
  {% call noop_statement('main', 'OK') %}{% endcall %}
  {% do apply_grants(table, config.get('grants'), should_revoke=true) %}
  {% do persist_docs(table, model) %}
  {% do adapter.commit() if target.type != 'snowflake' %}
  {% do return({'relations': [table]}) %}
{% endmacro %}
