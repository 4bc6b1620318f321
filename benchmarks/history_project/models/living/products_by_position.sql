{{ config(materialized='table') }}

select * from {{ ref('products_merged') }}
union all
select sku, label, price, kind from {{ ref('stg_products') }}
