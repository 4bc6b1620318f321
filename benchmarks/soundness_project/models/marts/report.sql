{{ config(materialized='view') }}

with totals as (
    select region, sum(cents) as cents, count(*) as customers from {{ ref('customer_totals') }}
    group by region
),

months as (
    select count(*) as months, sum(euros) as euros from {{ ref('monthly') }}
)

select totals.*, months.months, months.euros, steps.bucket
from totals
cross join months
left join {{ ref('shape_steps') }} as steps on steps.lower_bound = totals.customers * 10
