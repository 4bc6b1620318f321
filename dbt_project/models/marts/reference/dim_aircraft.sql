select
    tail_number,
    manufacturer,
    model_name,
    aircraft_type,
    engine_type,
    engine_count,
    seat_count,
    size_class,
    manufactured_year,
    2013 - manufactured_year as age_years,
    registered_since
from {{ ref('int_aircraft__current') }}
