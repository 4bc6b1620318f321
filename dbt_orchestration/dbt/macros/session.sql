{#- The time zone of the session, and that of a session of Snowflake's user for which nobody has set
    one. Fails if the session may not use the warehouse. Given to dbt by operation.py. -#}
{% macro dbt_orchestration__session(warehouse=none) %}
  {% if target.type == 'snowflake' and warehouse is not none %}
    {% do run_query('use warehouse ' ~ warehouse) %}
  {% endif %}
  {% if target.type == 'duckdb' %}
    {% set zone = run_query("select current_setting('TimeZone') as zone").rows[0][0] %}
  {% elif target.type == 'snowflake' %}
    {% set zone = run_query("show parameters like 'TIMEZONE' in session").rows[0]['value'] %}
    {% set own = run_query("show parameters like 'TIMEZONE' in user").rows[0]['value'] %}
  {% endif %}
  {% do log('dbt_orchestration: ' ~ tojson({'session': zone | default(none), 'user': own | default(none)})) %}
{% endmacro %}
