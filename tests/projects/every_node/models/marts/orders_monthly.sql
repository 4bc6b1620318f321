{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="month_at",
    batch_size="month", begin="2024-01-01", lookback=1,
    meta={"dagster": {"partitions": {"end": "2024-03-01"}}}
) }}
select date_trunc('month', day_at) as month_at, sum(amount) as amount
from {{ ref("orders_daily") }}
group by 1
