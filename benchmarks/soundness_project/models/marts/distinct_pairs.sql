with pairs as (
    select distinct lower(status) as status, sku from {{ ref('stg_orders') }}
),

firsts as (
    select distinct on (sku) sku, order_id, status
    from {{ ref('stg_orders') }}
    order by sku, ordered_at, order_id
)

select pairs.status, pairs.sku, firsts.order_id, pairs.status = firsts.status as is_first
from pairs
inner join firsts on pairs.sku = firsts.sku
