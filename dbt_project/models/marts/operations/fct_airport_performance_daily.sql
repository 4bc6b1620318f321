{{
    config(
        materialized='incremental',
        incremental_strategy='microbatch',
        event_time='flight_date',
        batch_size='day',
        begin='2013-01-01',
        on_schema_change='append_new_columns',
        lookback=1,
        tags=['daily'],
    )
}}

with flights as (

    select
        flight_date,
        origin_code,
        flight_status,
        is_on_time,
        is_long_delay,
        departure_delay_minutes,
        arrival_delay_minutes
    from {{ ref('fct_flights') }}

)

select
    flight_date,
    origin_code,
    {{ flight_counts() }},
    cast(count_if(is_long_delay) as bigint) as long_delays,
    {{ minutes_late('departure_delay_minutes') }} as departure_delay_minutes,
    {{ minutes_late('arrival_delay_minutes') }} as arrival_delay_minutes,
    {{ share('count_if(is_on_time)', 'count(*)') }} as on_time_rate
from flights
group by flight_date, origin_code
