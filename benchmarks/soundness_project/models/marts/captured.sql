-- Names that mean something else as soon as the inner relation has a column of that name.
select
    c.customer_id,
    (
        select count(*) from {{ ref('stg_events') }} as e
        where e.customer_id = c.customer_id and score > 40 and segment is not null
    ) as events,
    exists (select 1 from {{ ref('country_codes') }} as k where k.country = c.country and name > 'f')
        as is_known,
    score * 2 as doubled,
    doubled + 1 as more
from {{ ref('stg_customers') }} as c
