{{ config(meta={"dagster": {"ref": {"name": "report"}}}) }}
select 1 as difference
where (select sum(amount) from {{ ref("stg_orders") }}) < (select amount from {{ ref("report") }})
