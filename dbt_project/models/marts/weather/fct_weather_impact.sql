with factors as (

    select
        origin_code,
        weather_condition,
        flight_status,
        is_on_time,
        arrival_delay_minutes
    from {{ ref('int_flights__delay_factors') }}

),

outcomes as (

    select
        origin_code,
        weather_condition,
        {{ flight_counts() }},
        round(avg(arrival_delay_minutes), 1) as average_arrival_delay_minutes,
        {{ share('count_if(is_on_time)', 'count(*)') }} as on_time_rate
    from factors
    group by origin_code, weather_condition

)

select
    origin_code,
    weather_condition,
    scheduled_flights,
    cancelled_flights,
    diverted_flights,
    completed_flights,
    on_time_flights,
    average_arrival_delay_minutes,
    on_time_rate,
    round(
        on_time_rate
        - max(case when weather_condition = 'fair' then on_time_rate end)
            over (partition by origin_code),
        4
    ) as on_time_rate_against_fair
from outcomes
