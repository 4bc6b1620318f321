{{ config(materialized='view') }}

select * from {{ ref('country_codes') }}
