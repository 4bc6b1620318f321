select
    a.customer_id as first_id,
    b.customer_id as second_id,
    a.score - b.score as gap,
    a.name || '/' || b.name as names
from {{ ref('stg_customers') }} as a
inner join {{ ref('stg_customers') }} as b
    on a.country = b.country and a.customer_id < b.customer_id
where not exists (
    select 1 from {{ ref('stg_orders') }} as o
    where o.customer_id = a.customer_id and o.customer_id is null
)
