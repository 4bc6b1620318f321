{{ config(materialized='view', event_time='placed_at') }}
select order_id, placed_at, amount from {{ ref('stg_orders') }}
