select p.sku, p.kind, 'sold' as what
from {{ ref('stg_products') }} as p
semi join {{ ref('stg_orders') }} as o on p.sku = o.sku
union all by name
select 'never' as what, p.sku, p.kind
from {{ ref('stg_products') }} as p
anti join {{ ref('stg_orders') }} as o on p.sku = o.sku
