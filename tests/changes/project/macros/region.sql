{% macro region() %}'{{ env_var("SHOP_REGION", "eu") }}'{% endmacro %}

{% macro label() %}'{{ model.config.meta.label }}'{% endmacro %}

{% macro wait() %}{% if execute %}{{ log("ran", info=false) }}{% endif %}{% endmacro %}

{% macro audit(what) %}insert into audit values ('{{ what }}'){% endmacro %}
