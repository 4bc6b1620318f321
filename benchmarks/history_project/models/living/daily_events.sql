{{ config(
    materialized='incremental', incremental_strategy='microbatch', event_time='happened_at',
    batch_size='day', begin='2024-04-25', on_schema_change='append_new_columns',
    meta={'dagster': {'partitions': {'chunk': 5}}}
) }}

select happened_at, kind, value, event_id
from {{ ref('stg_events') }}
