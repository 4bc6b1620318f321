select {{ kit.key(['customer_id', 'country']) }} as key, n
from {{ ref('stg_customers') }} cross join {{ ref('kit_numbers') }}
