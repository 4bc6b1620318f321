{{ config(materialized='view') }}

select month_at, max(value) as value from {{ ref('months_asked') }} group by 1
