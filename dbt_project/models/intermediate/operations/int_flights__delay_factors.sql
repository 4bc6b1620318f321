with flights as (

    select
        flight_key,
        flight_date,
        scheduled_hour_utc_at,
        carrier_code,
        origin_code,
        tail_number,
        flight_status,
        departure_delay_minutes,
        arrival_delay_minutes,
        recovered_minutes,
        is_on_time
    from {{ ref('int_flights__outcomes') }}

),

weather as (

    select
        airport_code,
        observed_utc_at,
        weather_condition
    from {{ ref('int_weather__conditions') }}

),

demand as (

    select
        origin_code,
        scheduled_hour_utc_at,
        scheduled_departures,
        is_congested
    from {{ ref('int_departure_hours__demand') }}

),

aircraft as (

    select
        tail_number,
        size_class
    from {{ ref('int_aircraft__current') }}

),

joined as (

    select
        flights.flight_key,
        flights.flight_date,
        flights.carrier_code,
        flights.origin_code,
        flights.flight_status,
        flights.departure_delay_minutes,
        flights.arrival_delay_minutes,
        flights.recovered_minutes,
        flights.is_on_time,
        coalesce(weather.weather_condition, 'not observed') as weather_condition,
        demand.scheduled_departures as departures_in_hour,
        demand.is_congested,
        coalesce(aircraft.size_class, 'unknown') as aircraft_size_class
    from flights
    left join weather
        on
            flights.origin_code = weather.airport_code
            and flights.scheduled_hour_utc_at = weather.observed_utc_at
    left join demand
        on
            flights.origin_code = demand.origin_code
            and flights.scheduled_hour_utc_at = demand.scheduled_hour_utc_at
    left join aircraft on flights.tail_number = aircraft.tail_number

)

select
    flight_key,
    flight_date,
    carrier_code,
    origin_code,
    flight_status,
    weather_condition,
    departures_in_hour,
    is_congested,
    aircraft_size_class,
    departure_delay_minutes,
    arrival_delay_minutes,
    is_on_time,
    case
        when is_on_time then 'none'
        when weather_condition not in ('fair', 'not observed') then 'weather'
        when is_congested then 'airport congestion'
        when flight_status <> 'completed' then 'unexplained disruption'
        when departure_delay_minutes < {{ var('on_time_threshold_minutes') }} then 'en route'
        else 'airline or late aircraft'
    end as likely_cause
from joined
