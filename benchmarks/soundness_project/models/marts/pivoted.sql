select *
from (
    select * exclude (order_id, customer_id, name, label, list_price, ordered_on, note)
    from {{ ref('orders_enriched') }}
) pivot (sum(cents) as cents, count(*) as n for status in ('paid', 'open'))
