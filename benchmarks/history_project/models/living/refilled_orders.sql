{{ config(materialized='refilled') }}

select sku, status, sum(cents) as cents, max(quantity) as quantity
from {{ ref('stg_orders') }}
group by sku, status
