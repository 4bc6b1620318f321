select
    date_trunc('month', ordered_on) as month,
    status,
    count(*) as orders,
    sum(cents) / 100 as euros,
    min(raw_status) as spelling
from {{ ref('stg_orders') }}
group by all
having count(*) > 1
