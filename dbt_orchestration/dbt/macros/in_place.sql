{#- Looks at tables before a run builds into them. Given to dbt by runs/in_place.py. -#}

{#- Says which tables have other columns, in another order or of other types, than their model's SQL
    would make. -#}
{% macro dbt_orchestration__misfits(tables) %}
  {% set misfits = [] %}
  {% for table in tables %}
    {% set relation = load_relation(api.Relation.create(database=table.database, schema=table.schema, identifier=table.identifier)) %}
    {% if relation is not none %}
      {% if target.type == 'duckdb' %}
        {% set there = run_query('describe ' ~ relation) %}
        {% set made = run_query('describe ' ~ table.sql) %}
      {% else %}
        {% set probe = make_temp_relation(relation, '__fit').incorporate(type='table') %}
        {% do run_query('create or replace temporary table ' ~ probe ~ ' as select * from (' ~ table.sql ~ '\n) as made where false') %}
        {% set there = run_query('describe table ' ~ relation) %}
        {% set made = run_query('describe table ' ~ probe) %}
        {% do run_query('drop table if exists ' ~ probe) %}
      {% endif %}
      {% if dbt_orchestration__columns(there) != dbt_orchestration__columns(made) %}
        {% do misfits.append(table.unique_id) %}
      {% endif %}
    {% endif %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(misfits)) %}
{% endmacro %}

{% macro dbt_orchestration__columns(described) %}
  {% set columns = [] %}
  {% for row in described.rows %}
    {% do columns.append([row[0] | lower, row[1] | upper]) %}
  {% endfor %}
  {% do return(columns) %}
{% endmacro %}

{#- Makes way for tables that dbt is to make: what stands at their place is not theirs. A table is
    kept under another name, because it may hold what nobody can compute again; a view is dropped. -#}
{% macro dbt_orchestration__make_way(tables) %}
  {% set done = [] %}
  {% for table in tables %}
    {% set relation = load_relation(api.Relation.create(database=table.database, schema=table.schema, identifier=table.identifier)) %}
    {% if relation is not none and relation.is_view %}
      {% do adapter.drop_relation(relation) %}
      {% do done.append(table.unique_id ~ ': the view ' ~ relation ~ ', which stood in its place, was dropped.') %}
    {% elif relation is not none and table.aside %}
      {% set aside = relation.incorporate(path={'identifier': table.aside}) %}
      {% do drop_indexes_on_relation(relation) if target.type == 'duckdb' %}
      {% do adapter.rename_relation(relation, aside) %}
      {% do done.append(table.unique_id ~ ': the table that stood in its place was kept as ' ~ aside ~ '.') %}
    {% endif %}
  {% endfor %}
  {% do adapter.commit() if target.type != 'snowflake' %}
  {% do log('dbt_orchestration: ' ~ tojson(done)) %}
{% endmacro %}
