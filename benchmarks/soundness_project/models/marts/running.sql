select
    order_id,
    sku,
    sum(cents) over so_far as running_cents,
    avg(quantity) over (
        partition by sku order by order_id rows between 2 preceding and current row
    ) as average,
    count(*) over (partition by sku) as of_sku,
    first_value(status ignore nulls) over (
        partition by sku order by order_id
        rows between unbounded preceding and unbounded following
    ) as first_status
from {{ ref('stg_orders') }}
window so_far as (partition by sku order by ordered_at, order_id)
