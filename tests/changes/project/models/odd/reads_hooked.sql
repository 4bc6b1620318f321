select customer_id from {{ ref('hooked') }}
