select
    id as order_id,
    customer_id,
    placed_at,
    status,
    'a -- b' as note,
    {# what the customer paid #}
    amount
from {{ source('raw', 'orders') }}
