{{ config(materialized='view') }}

select region, sum(population) as population, count(*) as countries
from {{ ref('country_codes') }}
group by region
