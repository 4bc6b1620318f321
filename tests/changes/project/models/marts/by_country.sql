select k.country, count(*) as orders
from {{ ref('orders') }} as o join {{ ref('countries') }} as k on k.code = o.country
group by k.country
