{{ config(materialized="ephemeral") }}
select customer_id, ordered_at, amount from {{ ref("stg_orders") }}
