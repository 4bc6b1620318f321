{{ config(alias='tags_of_products') }}

select
    p.sku,
    t.tag,
    length(t.tag) as tag_length,
    list_contains(p.tag_list, 'new') as is_new,
    [upper(x) for x in p.tag_list if x <> 'old'] as upper_tags,
    {'sku': p.sku, 'price': p.price} as pair
from {{ ref('stg_products') }} as p, unnest(p.tag_list) as t(tag)
