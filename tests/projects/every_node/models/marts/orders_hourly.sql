{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="hour_at",
    batch_size="hour", begin="2024-01-01", meta={"dagster": {"partitions": {"end": "2024-01-03"}}}
) }}
select date_trunc('hour', ordered_at) as hour_at, sum(amount) as amount
from {{ ref("stg_orders") }}
group by 1
