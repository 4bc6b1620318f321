{{ config(materialized='view') }}

select * from {{ ref('daily_events') }}
union all
select * from {{ ref('monthly_events') }}
