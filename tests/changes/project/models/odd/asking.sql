{% set names = run_query("select 1") %}
select customer_id, email from {{ ref('stg_customers') }}
