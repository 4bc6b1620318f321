select customer_id, orders, cents / 100 as euros, cents from {{ ref('customer_totals') }}
