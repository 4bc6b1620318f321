select
    order_id,
    cents / 100.0 as euros,
    euros * 0.19 as vat,
    case when vat > 10 then 'high' when vat is null then 'none' else 'low' end as level,
    quantity,
    coalesce(quantity, 1) as quantity_or_one,
    quantity_or_one + 1 as next,
    {{ shapes.bucket('cents') }} as bucket
from {{ ref('stg_orders') }}
where euros between 0.5 and 400
