{#- Relations that no node has any more: what is known of them, and dropping them. Given to dbt by
    operation.py. -#}

{#- Rows, bytes and last change of tables, and the text of views, as far as the warehouse says. -#}
{% macro dbt_orchestration__about(relations) %}
  {% set facts, views = [], [] %}
  {% for database in relations | map(attribute='database') | unique %}
    {% set wanted = relations | selectattr('database', 'equalto', database) | list %}
    {% set facts_sql %}
      {% if target.type == 'duckdb' %}
        select schema_name, table_name, estimated_size, null, null
        from duckdb_tables()
        where lower(database_name) = {{ dbt_orchestration__literal(database | lower) }}
          and lower(schema_name) in ({{ dbt_orchestration__lower(wanted, 'schema') }})
      {% else %}
        select table_schema, table_name, row_count, bytes, to_varchar(last_altered, 'YYYY-MM-DD')
        from {{ api.Relation.create(**wanted[0]).information_schema('tables') }}
        where lower(table_schema) in ({{ dbt_orchestration__lower(wanted, 'schema') }})
      {% endif %}
          and lower(table_name) in ({{ dbt_orchestration__lower(wanted, 'identifier') }})
    {% endset %}
    {% set views_sql %}
      {% if target.type == 'duckdb' %}
        select schema_name, view_name, sql from duckdb_views()
        where not internal and lower(database_name) = {{ dbt_orchestration__literal(database | lower) }}
      {% else %}
        select table_schema, table_name, view_definition
        from {{ api.Relation.create(**wanted[0]).information_schema('views') }}
        where lower(table_schema) != 'information_schema'
      {% endif %}
    {% endset %}
    {% for row in run_query(facts_sql).rows %}
      {% do facts.append([database, row[0], row[1], row[2] | string, row[3] | string, row[4] | string]) %}
    {% endfor %}
    {% for row in run_query(views_sql).rows %}
      {% do views.append([database, row[0], row[1], row[2] | string]) %}
    {% endfor %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson([facts, views])) %}
{% endmacro %}

{#- Drops the relation of exactly this name, of whatever type it is. -#}
{% macro dbt_orchestration__drop(relation) %}
  {% for each in adapter.list_relations(relation.database, relation.schema) %}
    {% if each.identifier == relation.identifier %}
      {% do adapter.drop_relation(each) %}
      {% do adapter.commit() if target.type != 'snowflake' %}
    {% endif %}
  {% endfor %}
{% endmacro %}
