with paid as (
    select customer_id, status from {{ ref('stg_orders') }} where status = 'paid'
),

opened as (
    select customer_id, status from {{ ref('stg_orders') }} where status = 'open'
),

active as (
    select customer_id from {{ ref('stg_events') }} where value > 10
)

select customer_id, status, 1 as source from paid
union all
select customer_id, status, 2 from opened
union all
select customer_id, 'both', 3 from (
    select customer_id from paid
    intersect
    select customer_id from opened
)
union all
select customer_id, 'quiet', 4 from (
    select customer_id from paid
    except
    select customer_id from active
)
union
select customer_id, status, 5 from opened
