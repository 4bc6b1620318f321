{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="happened_at",
    batch_size="day", begin="2024-01-01", lookback=1,
    meta={"dagster": {"partitions": {"end": "2024-01-11", "chunk": 3}}}
) }}
select
    events.happened_at,
    case when events.broken then error('this day is broken') else step.number end as step
from {{ source("raw", "events") }} as events
cross join {{ source("raw", "step") }} as step
