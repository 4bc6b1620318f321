{{ config(materialized='table', pre_hook="{{ audit('before') }}", post_hook=["grant select on {{ this }} to a"]) }}
select customer_id from {{ ref('stg_customers') }}
