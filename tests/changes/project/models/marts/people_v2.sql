select customer_id, country, email from {{ ref('stg_customers') }}
