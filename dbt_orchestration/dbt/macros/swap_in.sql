{#- Puts tables that were built beside others into their place. Given to dbt by runs/shadow.py.

    Readers see the old table until the statement that puts the new one there, and the new one from
    then on. What people granted or wrote on the old one by hand goes over to the new one. -#}

{% macro dbt_orchestration__swap_in(tables) %}
  {% for table in tables %}
    {% set old = api.Relation.create(database=table.database, schema=table.schema, identifier=table.identifier, type='table') %}
    {% set new = api.Relation.create(database=table.database, schema=table.schema, identifier=table.shadow, type='table') %}
    {% set existing = load_relation(old) %}
    {% if existing is not none and existing.is_view %}
      {% do adapter.drop_relation(existing) %}
      {% set existing = none %}
    {% endif %}
    {% if existing is not none %}
      {% do dbt_orchestration__keep_grants(old, new) %}
      {% do dbt_orchestration__keep_comments(old, new) %}
    {% endif %}
    {% do dbt_orchestration__exchange(existing, old, new) %}
  {% endfor %}
{% endmacro %}

{% macro dbt_orchestration__exchange(existing, old, new) %}
  {% if existing is none %}
    {% do run_query('alter table ' ~ new ~ ' rename to ' ~ (old if target.type == 'snowflake' else dbt_orchestration__quoted(old.identifier))) %}
    {% do adapter.commit() if target.type != 'snowflake' %}
  {% elif target.type == 'snowflake' %}
    {% do run_query('alter table ' ~ old ~ ' swap with ' ~ new) %}
    {% do adapter.drop_relation(new) %}
  {% else %}
    {#- dbt's name for it, …__dbt_backup, may be a model's. This one is tidied away like what is beside. -#}
    {% set backup = old.incorporate(path={'identifier': old.identifier ~ '__rebuild_00000000'}) %}
    {% do adapter.drop_relation(backup) %}
    {% do drop_indexes_on_relation(old) if target.type == 'duckdb' %}
    {% call statement('begin', auto_begin=True) %} select 1 {% endcall %}
    {% do adapter.rename_relation(old, backup) %}
    {% do adapter.rename_relation(new, old) %}
    {% do adapter.commit() %}
    {% do adapter.drop_relation(backup) %}
  {% endif %}
{% endmacro %}

{% macro dbt_orchestration__keep_grants(old, new) %}
  {% if target.type != 'duckdb' %}
    {% set granted = adapter.standardize_grants_dict(run_query(get_show_grant_sql(old))) %}
    {% do apply_grants(new, granted, should_revoke=False) %}
  {% endif %}
{% endmacro %}

{% macro dbt_orchestration__keep_comments(old, new) %}
  {% if target.type == 'duckdb' %}
    {% set tables_sql %}
      select comment from duckdb_tables()
      where schema_name = {{ dbt_orchestration__literal(old.schema) }} and table_name = {{ dbt_orchestration__literal(old.identifier) }}
        and database_name = {{ dbt_orchestration__literal(old.database) }} and comment is not null
    {% endset %}
    {% set columns_sql %}
      select before.column_name, before.comment
      from duckdb_columns() as before
      join duckdb_columns() as after
        on after.database_name = before.database_name and after.schema_name = before.schema_name
        and after.table_name = {{ dbt_orchestration__literal(new.identifier) }} and after.column_name = before.column_name
      where before.schema_name = {{ dbt_orchestration__literal(old.schema) }} and before.table_name = {{ dbt_orchestration__literal(old.identifier) }}
        and before.database_name = {{ dbt_orchestration__literal(old.database) }}
        and before.comment is not null and after.comment is null
    {% endset %}
  {% else %}
    {% set tables_sql %}
      select comment from {{ old.information_schema('tables') }}
      where table_schema = {{ dbt_orchestration__literal(old.schema | upper) }} and table_name = {{ dbt_orchestration__literal(old.identifier | upper) }}
        and comment is not null and comment <> ''
    {% endset %}
    {% set columns_sql %}
      select before.column_name, before.comment
      from {{ old.information_schema('columns') }} as before
      join {{ old.information_schema('columns') }} as after
        on after.table_schema = before.table_schema and after.column_name = before.column_name
        and after.table_name = {{ dbt_orchestration__literal(new.identifier | upper) }}
      where before.table_schema = {{ dbt_orchestration__literal(old.schema | upper) }}
        and before.table_name = {{ dbt_orchestration__literal(old.identifier | upper) }}
        and before.comment is not null and after.comment is null
    {% endset %}
  {% endif %}
  {% for row in run_query(tables_sql).rows %}
    {% do run_query('comment on table ' ~ new ~ ' is ' ~ dbt_orchestration__literal(row[0])) %}
  {% endfor %}
  {% for row in run_query(columns_sql).rows %}
    {% do run_query('comment on column ' ~ new ~ '.' ~ dbt_orchestration__quoted(row[0]) ~ ' is ' ~ dbt_orchestration__literal(row[1])) %}
  {% endfor %}
{% endmacro %}

{#- Says whether all that an earlier attempt left beside the tables is still there. -#}
{% macro dbt_orchestration__are_there(tables) %}
  {% set gone = [] %}
  {% for table in tables %}
    {% set shadow = api.Relation.create(database=table.database, schema=table.schema, identifier=table.shadow, type='table') %}
    {% do gone.append(table.shadow) if load_relation(shadow) is none %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(not gone)) %}
{% endmacro %}

{#- Drops what was built beside these tables and never put into their place, unless it is of a request
    in ``kept``, whose runs go on. Ours is only what ends in a request's eight hexadecimal digits, and
    what no model, seed, snapshot, test or source of the project is called. -#}
{% macro dbt_orchestration__tidy(tables, kept) %}
  {% set theirs = [] %}
  {% for node in graph.nodes.values() | list + graph.sources.values() | list %}
    {% do theirs.append((node.identifier or node.alias or node.name) | lower) %}
  {% endfor %}
  {% for table in tables %}
    {% set old = api.Relation.create(database=table.database, schema=table.schema, identifier=table.identifier, type='table') %}
    {% set prefix = table.identifier | lower ~ '__rebuild_' %}
    {% set left_sql %}
      select table_name
      from {{ 'information_schema.tables' if target.type == 'duckdb' else old.information_schema('tables') }}
      where lower(table_catalog) = {{ dbt_orchestration__literal(table.database | lower) }}
        and lower(table_schema) = {{ dbt_orchestration__literal(table.schema | lower) }}
        and starts_with(lower(table_name), {{ dbt_orchestration__literal(prefix) }})
    {% endset %}
    {% for row in run_query(left_sql).rows %}
      {% set request = (row[0] | lower)[prefix | length:] %}
      {% if modules.re.fullmatch('[0-9a-f]{8}', request) and request not in kept and row[0] | lower not in theirs %}
        {% do adapter.drop_relation(old.incorporate(path={'identifier': row[0]})) %}
      {% endif %}
    {% endfor %}
  {% endfor %}
{% endmacro %}

{#- A text in SQL. Snowflake reads backslashes in it, DuckDB does not. -#}
{% macro dbt_orchestration__literal(text) %}
  {% set text = text | replace('\\', '\\\\') if target.type == 'snowflake' else text %}
  {% do return("'" ~ (text | replace("'", "''")) ~ "'") %}
{% endmacro %}

{#- A name in SQL, whatever is in it. -#}
{% macro dbt_orchestration__quoted(name) %}
  {% do return('"' ~ (name | replace('"', '""')) ~ '"') %}
{% endmacro %}
