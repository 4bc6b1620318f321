select
    cast(carrier as varchar) as carrier_code,
    trim(cast(name as varchar)) as airline_name,
    cast(loaded_at as timestamp) as loaded_at
from {{ source('nycflights', 'airlines') }}
