{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key='day',
    on_schema_change='append_new_columns',
    meta={'dagster': {'partitions': {'batch_size': 'day', 'begin': '2024-04-25'}}}
) }}

select cast(happened_at as date) as day, count(*) as events, sum(value) * {{ factor() }} as value
from {{ ref('stg_events') }}
where {{ window_of('happened_at', 'partition_start', 'partition_end') }}
group by 1
