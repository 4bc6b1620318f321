-- In an expression of ORDER BY, `cents` is the column and not the alias.
select order_id, customer_id as cents
from {{ ref('stg_orders') }}
order by cents + 0 desc, order_id
limit 7
