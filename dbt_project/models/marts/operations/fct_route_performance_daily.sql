{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='flight_date',
        post_hook="{{ delete_vanished_dates('flight_date', ref('fct_flights'), 'flight_date') }}",
        tags=['daily'],
    )
}}

with flights as (

    select
        flight_date,
        origin_code,
        destination_code,
        carrier_code,
        flight_status,
        is_on_time,
        arrival_delay_minutes,
        air_minutes
    from {{ ref('fct_flights') }}
    where {{ in_partition_window('flight_date') }}

)

select
    flight_date,
    origin_code,
    destination_code,
    {{ surrogate_key(['origin_code', 'destination_code']) }} as route_key,
    {{ flight_counts() }},
    count(distinct carrier_code) as airlines,
    {{ minutes_late('arrival_delay_minutes') }} as arrival_delay_minutes,
    round(avg(air_minutes), 1) as average_air_minutes
from flights
group by flight_date, origin_code, destination_code
