{{ config(materialized='view') }}

select rates.*, steps.generate_series as step
from {{ ref('stg_rates') }} as rates
cross join {{ source('bank', 'steps') }} as steps
