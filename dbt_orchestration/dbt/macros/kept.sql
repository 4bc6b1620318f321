{#- Copies of tables, from before a push replaced them. Given to dbt by dbt/operation.py. -#}

{% macro dbt_orchestration__copied(source, copy, transient) %}
  {% if target.type == 'snowflake' %}
    {% do run_query('create or replace ' ~ ('transient ' if transient) ~ 'table ' ~ copy ~ ' clone ' ~ source) %}
  {% else %}
    {% do adapter.drop_relation(copy) %}
    {% do run_query('create table ' ~ copy ~ ' as select * from ' ~ source) %}
    {% do adapter.commit() %}
  {% endif %}
{% endmacro %}

{#- Copies each table under the name ``kept``, unless it is a view; the ids of those that were. -#}
{% macro dbt_orchestration__keep(tables) %}
  {% set done = [] %}
  {% for table in tables %}
    {#- What dbt finds has names as the warehouse writes them, and quotes them. -#}
    {% set source = api.Relation.create(database=table.database, schema=table.schema, identifier=table.identifier, type='table') %}
    {% set found = load_relation(source) %}
    {% if found is not none and found.is_table %}
      {% do dbt_orchestration__copied(source, api.Relation.create(type='table', **table.kept), table.transient) %}
      {% do done.append(table.unique_id) %}
    {% endif %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(done)) %}
{% endmacro %}

{#- The ids and the names of those copies that are there. -#}
{% macro dbt_orchestration__kept(tables) %}
  {% set there = [] %}
  {% for table in tables %}
    {% if load_relation(api.Relation.create(**table.kept)) is not none %}
      {% do there.append([table.unique_id, table.kept.identifier]) %}
    {% endif %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(there)) %}
{% endmacro %}

{#- Makes shadow tables of copies: what is built beside the old table begins with them. -#}
{% macro dbt_orchestration__begin_with_kept(tables) %}
  {% for table in tables %}
    {% set kept = api.Relation.create(type='table', **table.kept) %}
    {% set shadow = api.Relation.create(database=table.database, schema=table.schema, identifier=table.shadow, type='table') %}
    {#- dbt makes the schemas of what it builds later. -#}
    {% if not adapter.check_schema_exists(table.database, table.schema) %}
      {% do create_schema(shadow) %}
    {% endif %}
    {% do dbt_orchestration__copied(kept, shadow, table.transient) %}
  {% endfor %}
{% endmacro %}

{% macro dbt_orchestration__drop_kept(tables) %}
  {% for table in tables %}
    {% do adapter.drop_relation(api.Relation.create(type='table', **table.kept)) %}
  {% endfor %}
  {% do adapter.commit() if target.type != 'snowflake' %}
{% endmacro %}
