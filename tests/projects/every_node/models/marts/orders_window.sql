{{ config(
    materialized="incremental", incremental_strategy="delete+insert", unique_key="day_at",
    meta={"dagster": {"partitions": {"batch_size": "day", "begin": "2024-01-01", "end": "2024-01-05"}}}
) }}
select date_trunc('day', ordered_at) as day_at, count(*) as orders
from {{ ref("stg_orders") }}
{% if var("partition_start", none) %}
where ordered_at >= '{{ var("partition_start") }}' and ordered_at < '{{ var("partition_end") }}'
{% endif %}
group by 1
