{{ config(materialized='view') }}

select id, name, country, score from {{ ref('customers_history') }} where dbt_valid_to is null
