{{ config(post_hook="delete from {{ this }} where sku in (
    select sku from {{ ref('stg_products') }} where price is null or price > 9
)") }}

select sku, count(*) as orders from {{ ref('stg_orders') }} group by sku
