{#- How many rows relations have, or queries make, by the period in which they lie if they have a time.
    Given to dbt by operation.py. -#}
{% macro dbt_orchestration__counts(tables) %}
  {% set found = [] %}
  {% for table in tables %}
    {% set counted = [] %}
    {% if table.time %}
      {% if target.type == 'duckdb' %}
        {% set period = "strftime(date_trunc('" ~ table.size ~ "', cast(" ~ table.time ~ " as timestamp)), '%Y-%m-%d %H:%M')" %}
      {% else %}
        {% set period = "to_char(date_trunc('" ~ table.size ~ "', convert_timezone('UTC', " ~ table.time ~ ")), 'YYYY-MM-DD HH24:MI')" %}
      {% endif %}
      {% set sql = 'select ' ~ period ~ ' as period, count(*) from ' ~ table.of ~ ' where ' ~ table.time ~ ' is not null group by 1' %}
    {% else %}
      {% set sql = "select '' as period, count(*) from " ~ table.of %}
    {% endif %}
    {% for row in run_query(sql).rows %}
      {% do counted.append([row[0] or '', row[1] | int]) %}
    {% endfor %}
    {% do found.append(counted) %}
  {% endfor %}
  {% do log('dbt_orchestration: ' ~ tojson(found)) %}
{% endmacro %}
