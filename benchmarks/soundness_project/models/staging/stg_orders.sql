select
    id as order_id,
    customer_id,
    sku,
    {{ clean('status') }} as status,
    status as raw_status,
    {{ to_cents('amount') }} as cents,
    amount,
    quantity,
    cast(ordered_at as timestamp) as ordered_at,
    cast(ordered_at as date) as ordered_on,
    note
from {{ ref('raw_orders') }}
where id is not null and (quantity > 0 or quantity is null)
