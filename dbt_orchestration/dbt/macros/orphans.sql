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

{#- How many others have read relations in the last 90 days, and when last, as Snowflake remembers it. -#}
{% macro dbt_orchestration__accessed(relations) %}
  {% set names = [] %}
  {% for each in relations %}
    {% do names.append(dbt_orchestration__literal((each.database ~ '.' ~ each.schema ~ '.' ~ each.identifier) | lower)) %}
  {% endfor %}
  {#- What a query names, and what is below the views that it names. -#}
  {% set each_sql = [] %}
  {% for objects in ('direct_objects_accessed', 'base_objects_accessed') %}
    {% do each_sql.append(
      'select user_name, query_start_time, lower(object.value:objectName::varchar) as name'
      ~ ' from snowflake.account_usage.access_history, lateral flatten(input => ' ~ objects ~ ') as object'
      ~ ' where query_start_time > dateadd(day, -90, current_timestamp())'
    ) %}
  {% endfor %}
  {% set accessed_sql %}
    select name, count(distinct user_name), to_varchar(max(query_start_time), 'YYYY-MM-DD')
    from ({{ each_sql | join(' union all ') }}) as accessed
    where user_name != current_user() and name in ({{ names | join(', ') }})
    group by name
  {% endset %}
  {% set found = [] %}
  {% for row in run_query(accessed_sql).rows %}
    {% do found.append([row[0], row[1] | int, row[2]]) %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(found)) %}
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
