with flights as (

    select
        origin_code,
        destination_code,
        carrier_code,
        flight_date,
        distance_miles
    from {{ ref('int_flights__outcomes') }}

),

airports as (

    select
        airport_code,
        latitude,
        longitude
    from {{ ref('int_airports__unioned') }}

),

routes as (

    select
        origin_code,
        destination_code,
        max(distance_miles) as distance_miles,
        count(*) as scheduled_flights,
        count(distinct carrier_code) as airlines,
        min(flight_date) as first_flight_date,
        max(flight_date) as last_flight_date
    from flights
    group by origin_code, destination_code

)

select
    routes.origin_code,
    routes.destination_code,
    routes.distance_miles,
    cast(round({{ great_circle_miles(
        'origins.latitude', 'origins.longitude',
        'destinations.latitude', 'destinations.longitude',
    ) }}) as integer) as great_circle_miles,
    routes.scheduled_flights,
    routes.airlines,
    routes.first_flight_date,
    routes.last_flight_date
from routes
left join airports as origins on routes.origin_code = origins.airport_code
left join airports as destinations on routes.destination_code = destinations.airport_code
