select
    c.customer_id,
    c.region,
    count(*) as rows_joined,
    count(o.order_id) as orders,
    sum(o.cents) as cents,
    sum(o.quantity) filter (where o.status = 'paid') as paid_quantity,
    max(o.ordered_at) as last_ordered_at,
    count(distinct o.sku) as products,
    {{ sums(['paid', 'open']) }}
from {{ ref('customer_regions') }} as c
left join {{ ref('stg_orders') }} as o on c.customer_id = o.customer_id and o.amount > 1
group by c.customer_id, c.region
