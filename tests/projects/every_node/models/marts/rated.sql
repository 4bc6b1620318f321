select o.order_id, o.amount * r.rate as amount
from {{ ref("stg_orders") }} as o cross join {{ source("outside", "rates") }} as r
