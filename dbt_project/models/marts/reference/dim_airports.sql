with airports as (

    select
        airport_code,
        airport_name,
        latitude,
        longitude,
        altitude_feet,
        time_zone,
        is_supplement
    from {{ ref('int_airports__unioned') }}

),

arrivals as (

    select
        destination_code,
        sum(scheduled_flights) as scheduled_flights
    from {{ ref('int_routes__served') }}
    group by destination_code

),

origins as (

    select distinct origin_code
    from {{ ref('int_routes__served') }}

)

select
    airports.airport_code,
    airports.airport_name,
    airports.latitude,
    airports.longitude,
    airports.altitude_feet,
    airports.time_zone,
    airports.is_supplement,
    origins.origin_code is not null as is_new_york_origin,
    coalesce(arrivals.scheduled_flights, 0) as scheduled_flights_from_new_york
from airports
left join arrivals on airports.airport_code = arrivals.destination_code
left join origins on airports.airport_code = origins.origin_code
