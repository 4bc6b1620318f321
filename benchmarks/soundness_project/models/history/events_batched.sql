{{ config(
    incremental_strategy='microbatch', event_time='happened_at', batch_size='month', begin='2024-01-01'
) }}

select event_id, kind, happened_at, sum(value) over (partition by kind order by happened_at, event_id) as running
from {{ ref('stg_events') }}
