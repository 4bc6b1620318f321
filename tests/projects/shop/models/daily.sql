{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"end": "2024-01-04"}}}
) }}
select date_trunc('day', ordered_at) as day_at, sum(amount) as amount
from {{ ref("stg_orders") }}
group by 1
