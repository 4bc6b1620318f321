select
    order_id,
    customer_id,
    sku,
    cents,
    ordered_at,
    row_number() over (partition by customer_id order by ordered_at desc, order_id) as place,
    lag(cents, 1) over (partition by customer_id order by ordered_at, order_id) as cents_before
from {{ ref('stg_orders') }}
where customer_id is not null
qualify place <= 2 or rank() over (order by cents desc) = 1
