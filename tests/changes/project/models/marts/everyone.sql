select customer_id from {{ ref('people') }}
