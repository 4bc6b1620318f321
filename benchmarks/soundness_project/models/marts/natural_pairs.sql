select *
from (select country, kind, note from {{ ref('orders_enriched') }}) as orders
natural left join {{ ref('country_codes') }}
