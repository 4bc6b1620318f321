select customer_id, {{ region() }} as region from {{ ref('stg_customers') }}
