select *
from (select customer_id, name, segment from {{ ref('stg_customers') }}) as customers
full join (
    select customer_id, kind, count(*) as events, sum(value) as value
    from {{ ref('stg_events') }}
    group by customer_id, kind
) as events using (customer_id)
