{{ config(materialized='incremental', unique_key='day', incremental_strategy='delete+insert') }}
select placed_at::date as day, count(*) as orders from {{ ref('stg_orders') }}
{% if is_incremental() %}
where placed_at >= (select max(day) from {{ this }})
{% endif %}
group by 1
