{{ config(
    materialized='incremental', incremental_strategy='microbatch', event_time='month_at',
    batch_size='month', begin='2024-04-01', on_schema_change='sync_all_columns'
) }}

select date_trunc('month', happened_at) as month_at, count(*) as events, max(value) as most
from {{ ref('daily_events') }}
group by 1
