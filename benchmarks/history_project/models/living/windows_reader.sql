{{ config(materialized='table') }}

select m.month_at, m.orders, m.cents, d.events, d.value
from {{ ref('windowed_months') }} as m
left join {{ ref('windowed_days') }} as d on m.month_at = date_trunc('month', d.day)
