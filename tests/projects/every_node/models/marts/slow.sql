{{ config(materialized="table") }}
select
{% if var("slow", false) %}
    (select count(sleep_ms(600000))) as n
{% else %}
    1 as n
{% endif %}
