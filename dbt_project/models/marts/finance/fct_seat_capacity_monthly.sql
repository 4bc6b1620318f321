with flights as (

    select
        {{ time_utils.start_of('month', 'flight_date') }} as month_start_at,
        carrier_code,
        tail_number,
        distance_miles
    from {{ ref('fct_flights') }}
    where flight_status = 'completed'

),

aircraft as (

    select
        tail_number,
        seat_count
    from {{ ref('dim_aircraft') }}

)

select
    flights.month_start_at,
    flights.carrier_code,
    count(*) as completed_flights,
    count(aircraft.seat_count) as flights_with_known_seats,
    coalesce(sum(aircraft.seat_count), 0) as seats_flown,
    coalesce(sum(aircraft.seat_count * flights.distance_miles), 0) as available_seat_miles,
    {{ share('count(aircraft.seat_count)', 'count(*)') }} as seat_coverage
from flights
left join aircraft on flights.tail_number = aircraft.tail_number
group by flights.month_start_at, flights.carrier_code
