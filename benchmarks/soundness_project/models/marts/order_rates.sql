select o.order_id, o.ordered_on, r.rate, round(o.cents * r.rate, 3) as in_dollars
from {{ ref('stg_orders') }} as o
asof left join (
    select * from {{ ref('stg_rates') }} where currency = 'usd'
) as r on o.ordered_on >= r.valid_from
