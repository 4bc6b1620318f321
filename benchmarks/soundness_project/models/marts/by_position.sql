{{ config(schema='reports') }}

select status, sku, count(*) as n, string_agg(order_id::varchar, ',' order by order_id) as ids
from {{ ref('stg_orders') }}
group by 1, 2
order by 3 desc, 1, 2
