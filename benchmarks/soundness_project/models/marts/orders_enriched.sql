-- Three inner joins, one condition of which stands in WHERE.
select
    o.order_id,
    o.customer_id,
    c.name,
    c.country,
    p.label,
    p.kind,
    o.quantity * p.price as list_price,
    o.cents,
    o.status,
    o.ordered_on,
    {{ shapes.label('o.note') }} as note
from {{ ref('valid_orders') }} as o
inner join {{ ref('stg_customers') }} as c on o.customer_id = c.customer_id
join {{ ref('stg_products') }} as p on o.sku = p.sku and p.price is not null
where c.is_good or c.country = '{{ var("home_country") }}'
