select o.order_id, to_json(o) as as_json, o as as_record
from {{ ref('valid_orders') }} as o
where o.order_id % 2 = 0
union all
select order_id, to_json(kind), null
from (select order_id, cents, quantity from {{ ref('stg_orders') }})
unpivot (amount for kind in (cents, quantity))
