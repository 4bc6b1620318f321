{{
    config(
        materialized='incremental',
        incremental_strategy='microbatch',
        event_time='month_start_at',
        batch_size='month',
        begin='2013-01-01',
        on_schema_change='append_new_columns',
        lookback=1,
        tags=['monthly'],
    )
}}

with flights as (

    select
        {{ time_utils.start_of('month', 'flight_date') }} as month_start_at,
        carrier_code,
        flight_status,
        is_on_time,
        is_long_delay,
        distance_miles,
        air_minutes,
        arrival_delay_minutes
    from {{ ref('fct_flights') }}

)

select
    month_start_at,
    carrier_code,
    {{ flight_counts() }},
    cast(count_if(is_long_delay) as bigint) as long_delays,
    {{ minutes_late('arrival_delay_minutes') }} as arrival_delay_minutes,
    coalesce(sum(air_minutes), 0) as air_minutes,
    sum(case when flight_status = 'completed' then distance_miles else 0 end) as miles_flown,
    {{ share('count_if(is_on_time)', 'count(*)') }} as on_time_rate
from flights
group by month_start_at, carrier_code
