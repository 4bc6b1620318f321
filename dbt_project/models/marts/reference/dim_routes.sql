with routes as (

    select
        origin_code,
        destination_code,
        distance_miles,
        great_circle_miles,
        scheduled_flights,
        airlines,
        first_flight_date,
        last_flight_date
    from {{ ref('int_routes__served') }}

),

airports as (

    select
        airport_code,
        airport_name
    from {{ ref('int_airports__unioned') }}

)

select
    {{ surrogate_key(['routes.origin_code', 'routes.destination_code']) }} as route_key,
    routes.origin_code,
    routes.destination_code,
    airports.airport_name as destination_name,
    routes.distance_miles,
    routes.great_circle_miles,
    case
        when routes.distance_miles < 500 then 'short haul'
        when routes.distance_miles < 1500 then 'medium haul'
        else 'long haul'
    end as haul,
    routes.scheduled_flights,
    routes.airlines,
    routes.airlines = 1 as is_monopoly,
    routes.first_flight_date,
    routes.last_flight_date
from routes
left join airports on routes.destination_code = airports.airport_code
