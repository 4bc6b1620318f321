select customer_id, orders, cents from {{ ref('customer_totals') }} where orders > 0
