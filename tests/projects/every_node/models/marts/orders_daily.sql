{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"end": "2024-01-05"}}}
) }}
{% set batch = model.batch.event_time_start if model.batch else "" %}
select
    date_trunc('day', ordered_at) as day_at,
    sum({% if var("broken_day") in batch | string %} error('this day is broken') {% else %} amount {% endif %}) as amount
from {{ ref("stg_orders") }}
group by 1
