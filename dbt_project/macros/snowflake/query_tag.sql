{% macro snowflake__set_query_tag() -%}
    {%- set tag = tojson({
        'app': 'dbt_flights',
        'run_id': env_var('DAGSTER_RUN_ID', ''),
        'target': target.name,
        'node': model.unique_id if model is mapping else none,
        'tag': config.get('query_tag'),
    }) -%}
    {%- do run_query("alter session set query_tag = '" ~ (tag | replace("'", "''")) ~ "'") -%}
    {{ return(none) }}
{%- endmacro %}


{% macro snowflake__unset_query_tag(original_query_tag) -%}
    {#- The next node sets its own tag: restoring one in between would cost a statement per node. -#}
    {{ return(none) }}
{%- endmacro %}
