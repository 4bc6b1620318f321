{{ config(
    materialized='incremental', incremental_strategy='append', on_schema_change='sync_all_columns'
) }}

select order_id, sku, cents * {{ hidden_factor() }} as cents
from {{ ref('stg_orders') }}
{% if is_incremental() %}
where order_id > (select max(order_id) from {{ this }})
{% endif %}
