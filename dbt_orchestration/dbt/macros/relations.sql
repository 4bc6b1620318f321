{#- What is in some schemas, by dbt's own query for each. Given to dbt by operation.py. -#}
{% macro dbt_orchestration__relations(schemas) %}
  {% set found = [] %}
  {% for place in schemas %}
    {% for relation in adapter.list_relations(place.database, place.schema) %}
      {% do found.append([relation.database | string, relation.schema, relation.identifier, relation.type | string]) %}
    {% endfor %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(found)) %}
{% endmacro %}

{#- The columns of some relations, and their types: one query for each database. -#}
{% macro dbt_orchestration__column_types(relations) %}
  {% set found = [] %}
  {% for database in relations | map(attribute='database') | unique %}
    {% set wanted = relations | selectattr('database', 'equalto', database) | list %}
    {% set sql %}
      {% if target.type == 'duckdb' %}
        select schema_name, table_name, column_name, data_type
        from duckdb_columns()
        where lower(database_name) = {{ dbt_orchestration__literal(database | lower) }}
          and lower(schema_name) in ({{ dbt_orchestration__lower(wanted, 'schema') }})
      {% else %}
        select
          table_schema, table_name, column_name,
          data_type || case when data_type = 'NUMBER' then '(' || numeric_precision || ',' || numeric_scale || ')' else '' end
        from {{ api.Relation.create(**wanted[0]).information_schema('columns') }}
        where lower(table_schema) in ({{ dbt_orchestration__lower(wanted, 'schema') }})
      {% endif %}
          and lower(table_name) in ({{ dbt_orchestration__lower(wanted, 'identifier') }})
        order by table_name, {{ 'column_index' if target.type == 'duckdb' else 'ordinal_position' }}
    {% endset %}
    {% for row in run_query(sql).rows %}
      {% do found.append([database, row[0], row[1], row[2], row[3]]) %}
    {% endfor %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(found)) %}
{% endmacro %}

{#- One of the names of each relation, as a list in SQL. -#}
{% macro dbt_orchestration__lower(relations, name) %}
  {% set names = [] %}
  {% for relation in relations %}
    {% do names.append(dbt_orchestration__literal(relation[name] | lower)) %}
  {% endfor %}
  {% do return(names | unique | join(', ')) %}
{% endmacro %}
