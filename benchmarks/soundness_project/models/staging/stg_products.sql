select
    sku,
    label,
    price,
    kind,
    string_split(tags, '|') as tag_list,
    coalesce(price, 0) * 1.19 as gross
from {{ ref('raw_products') }}
