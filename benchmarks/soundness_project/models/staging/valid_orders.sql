{{ config(materialized='ephemeral') }}

select *
from {{ ref('stg_orders') }}
where amount >= {{ var('min_amount') }} and status is not null
