{{ config(materialized='ephemeral') }}
select order_id, customer_id, placed_at, amount from {{ ref('stg_orders') }} where status = 'paid'
