select
    o.* exclude (note, raw_status) replace (coalesce(o.status, 'none') as status),
    p.* exclude (sku, tag_list)
from {{ ref('stg_orders') }} as o
left join {{ ref('stg_products') }} as p on o.sku = p.sku
