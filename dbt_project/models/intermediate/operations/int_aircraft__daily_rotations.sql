with flights as (

    select
        tail_number,
        flight_date,
        carrier_code,
        scheduled_departure_at,
        flight_status,
        distance_miles,
        air_minutes,
        arrival_delay_minutes,
        loaded_at
    from {{ ref('int_flights__outcomes') }}
    where tail_number is not null

)

select
    tail_number,
    flight_date,
    max(carrier_code) as carrier_code,
    count(*) as scheduled_departures,
    count_if(flight_status <> 'cancelled') as departures,
    min(scheduled_departure_at) as first_departure_at,
    max(scheduled_departure_at) as last_departure_at,
    coalesce(sum(air_minutes), 0) as air_minutes,
    sum(case when flight_status = 'completed' then distance_miles else 0 end) as miles_flown,
    {{ minutes_late('arrival_delay_minutes') }} as delay_minutes,
    max(loaded_at) as loaded_at
from flights
group by tail_number, flight_date
