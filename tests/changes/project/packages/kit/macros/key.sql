{% macro key(columns) %}{{ return(adapter.dispatch('key', 'kit')(columns)) }}{% endmacro %}

{% macro default__key(columns) %}md5({{ kit.joined(columns) }}){% endmacro %}

{% macro joined(columns) %}{{ columns | join(" || '-' || ") }}{% endmacro %}

{% macro unused_by_all() %}0{% endmacro %}
