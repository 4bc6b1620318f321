{{ config(materialized='ephemeral') }}

select customers.customer_id, customers.name, codes.region, country
from {{ ref('stg_customers') }} as customers
left join {{ ref('country_codes') }} as codes using (country)
