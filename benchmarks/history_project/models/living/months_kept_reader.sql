{{ config(materialized='table') }}

select month_at, sum(events) as events from {{ ref('months_kept') }} group by 1
