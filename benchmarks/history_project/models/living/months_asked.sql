{{ config(
    materialized='incremental', incremental_strategy='microbatch', event_time='month_at',
    batch_size='month', begin='2024-03-01', on_schema_change='append_new_columns',
    meta={'dagster': {'on_change': 'ask'}}
) }}

select date_trunc('month', happened_at) as month_at, kind, sum(value) as value
from {{ ref('stg_events') }}
group by 1, 2
