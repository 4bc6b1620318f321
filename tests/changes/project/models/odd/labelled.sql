{{ config(meta={'label': 'gold', 'other': 1}) }}
select customer_id, {{ label() }} as label from {{ ref('stg_customers') }}
