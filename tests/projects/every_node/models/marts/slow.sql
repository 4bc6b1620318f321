{{ config(materialized="table") }}
select
{% if var("slow", false) %}
    (select sum(a.range * b.range) from range(1000000) as a, range(1000000) as b) as n
{% else %}
    1 as n
{% endif %}
