select
    cast(tailnum as varchar) as tail_number,
    cast(year as integer) as manufactured_year,
    cast(type as varchar) as aircraft_type,
    trim(cast(manufacturer as varchar)) as manufacturer,
    trim(cast(model as varchar)) as model_name,
    cast(engines as integer) as engine_count,
    cast(seats as integer) as seat_count,
    cast(engine as varchar) as engine_type,
    cast(loaded_at as timestamp) as loaded_at
from {{ source('nycflights', 'planes') }}
