with performance as (

    select
        carrier_code,
        scheduled_flights,
        cancelled_flights,
        completed_flights,
        on_time_flights,
        long_delays,
        arrival_delay_minutes
    from {{ ref('fct_carrier_performance_monthly') }}

),

airlines as (

    select
        carrier_code,
        airline_name,
        business_model
    from {{ ref('dim_airlines') }}

),

totals as (

    select
        carrier_code,
        sum(scheduled_flights) as scheduled_flights,
        sum(cancelled_flights) as cancelled_flights,
        sum(completed_flights) as completed_flights,
        sum(on_time_flights) as on_time_flights,
        sum(long_delays) as long_delays,
        sum(arrival_delay_minutes) as arrival_delay_minutes
    from performance
    group by carrier_code

),

rated as (

    select
        totals.carrier_code,
        airlines.airline_name,
        airlines.business_model,
        totals.scheduled_flights,
        {{ share('totals.on_time_flights', 'totals.scheduled_flights') }} as on_time_rate,
        {{ share('totals.cancelled_flights', 'totals.scheduled_flights') }} as cancellation_rate,
        {{ share('totals.long_delays', 'totals.scheduled_flights') }} as long_delay_rate,
        {{ share('totals.arrival_delay_minutes', 'totals.completed_flights', 1) }}
            as delay_minutes_per_flight
    from totals
    left join airlines on totals.carrier_code = airlines.carrier_code

)

select
    carrier_code,
    airline_name,
    business_model,
    scheduled_flights,
    on_time_rate,
    cancellation_rate,
    long_delay_rate,
    delay_minutes_per_flight,
    rank() over (order by on_time_rate desc) as punctuality_rank
from rated
