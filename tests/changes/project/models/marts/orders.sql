select
    o.order_id,
    o.customer_id,
    o.placed_at,
    {{ cents('o.amount') }} as amount,
    c.country
from {{ ref('paid_orders') }} as o
join {{ ref('stg_customers') }} as c on c.customer_id = o.customer_id
