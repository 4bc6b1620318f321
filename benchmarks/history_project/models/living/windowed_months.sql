{{ config(
    materialized='incremental', incremental_strategy='delete+insert',
    unique_key=['month_at', 'status'],
    meta={'dagster': {'partitions': {
        'batch_size': 'month', 'begin': '2024-01-01', 'start_var': 'month_from', 'end_var': 'month_to'
    }}}
) }}

select date_trunc('month', ordered_at) as month_at, coalesce(status, 'none') as status, count(*) as orders, sum(cents) as cents
from {{ ref('stg_orders') }}
where {{ window_of('ordered_at', 'month_from', 'month_to') }}
group by 1, 2
