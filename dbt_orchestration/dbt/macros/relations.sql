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
