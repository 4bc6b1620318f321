{{ config(materialized='table') }}

select kind, sum(value) as value, count(*) as n from (
    select * from {{ ref('monthly_events') }}
    union all
    select * from {{ ref('daily_events') }}
)
group by kind
