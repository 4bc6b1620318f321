{{ config(
    materialized='incremental', incremental_strategy='merge', unique_key='sku',
    on_schema_change='append_new_columns'
) }}

select sku, label, price, kind from {{ ref('stg_products') }}
