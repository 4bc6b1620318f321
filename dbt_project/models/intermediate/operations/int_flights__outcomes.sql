{{ config(materialized='ephemeral', event_time='scheduled_departure_at') }}

with flights as (

    select
        flight_date,
        scheduled_departure_at,
        scheduled_hour_utc_at,
        carrier_code,
        flight_number,
        tail_number,
        origin_code,
        destination_code,
        distance_miles,
        air_minutes,
        departure_delay_minutes,
        arrival_delay_minutes,
        loaded_at,
        case
            when not has_departed then 'cancelled'
            when not has_arrived_as_planned then 'diverted'
            else 'completed'
        end as flight_status
    from {{ ref('stg_nycflights__flights') }}

)

select
    {{ surrogate_key(['flight_date', 'carrier_code', 'flight_number', 'origin_code']) }}
        as flight_key,
    flight_date,
    scheduled_departure_at,
    scheduled_hour_utc_at,
    carrier_code,
    flight_number,
    tail_number,
    origin_code,
    destination_code,
    flight_status,
    distance_miles,
    air_minutes,
    departure_delay_minutes,
    arrival_delay_minutes,
    departure_delay_minutes - arrival_delay_minutes as recovered_minutes,
    -- A flight that never arrived is not on time, whatever its delay would have been.
    coalesce({{ is_on_time('arrival_delay_minutes') }}, false) as is_on_time,
    coalesce(arrival_delay_minutes >= {{ var('long_delay_threshold_minutes') }}, false)
        as is_long_delay,
    loaded_at
from flights
