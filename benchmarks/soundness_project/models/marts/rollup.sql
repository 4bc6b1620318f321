select country, kind, sum(cents) as cents, grouping(kind) as level
from {{ ref('orders_enriched') }}
group by rollup (country, kind)
