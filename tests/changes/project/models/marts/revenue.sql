select {{ month_of('placed_at') }} as month, sum(amount) as revenue
from {{ ref('orders') }}
group by 1
