with airports as (

    select
        airport_code,
        airport_name,
        latitude,
        longitude,
        altitude_feet,
        time_zone
    from {{ ref('stg_nycflights__airports') }}

),

supplements as (

    select
        airport_code,
        airport_name,
        latitude,
        longitude,
        altitude_feet,
        time_zone
    from {{ ref('airport_supplements') }}
    -- Should the source learn about an airport, the source wins.
    where airport_code not in (select airports.airport_code from airports)

)

select
    airport_code,
    airport_name,
    latitude,
    longitude,
    altitude_feet,
    time_zone,
    false as is_supplement
from airports
union all
select
    airport_code,
    airport_name,
    latitude,
    longitude,
    altitude_feet,
    time_zone,
    true as is_supplement
from supplements
