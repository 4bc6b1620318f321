select
    c.customer_id,
    c.name,
    (select max(o.cents) from {{ ref('stg_orders') }} as o where o.customer_id = c.customer_id) as most,
    exists (
        select 1 from {{ ref('stg_events') }} as e
        where e.customer_id = c.customer_id and e.value > 20
    ) as is_active,
    c.country in (select country from {{ ref('country_codes') }} where region = 'north') as in_north
from {{ ref('stg_customers') }} as c
where c.customer_id not in (
    select customer_id from {{ ref('stg_orders') }}
    where status = 'void' and customer_id is not null
)
