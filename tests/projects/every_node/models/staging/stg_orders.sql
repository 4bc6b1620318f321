{{ config(materialized="view", event_time="ordered_at") }}
select order_id, customer_id, ordered_at, amount from {{ ref("orders") }}
