{{ config(event_time='scheduled_departure_at') }}

select
    {{ time_utils.timestamp_from_parts('year', 'month', 'day') }} as flight_date,
    {{ time_utils.timestamp_from_parts('year', 'month', 'day', 'hour', 'minute') }}
        as scheduled_departure_at,
    cast(time_hour as timestamp) as scheduled_hour_utc_at,
    cast({{ time_utils.hhmm_to_minutes('sched_dep_time') }} as integer)
        as scheduled_departure_minute_of_day,
    cast(carrier as varchar) as carrier_code,
    cast(flight as integer) as flight_number,
    cast(tailnum as varchar) as tail_number,
    cast(origin as varchar) as origin_code,
    cast(dest as varchar) as destination_code,
    cast(distance as integer) as distance_miles,
    cast(air_time as integer) as air_minutes,
    cast(dep_delay as integer) as departure_delay_minutes,
    cast(arr_delay as integer) as arrival_delay_minutes,
    dep_time is not null as has_departed,
    arr_delay is not null as has_arrived_as_planned,
    cast(loaded_at as timestamp) as loaded_at
from {{ source('nycflights', 'flights') }}
