with performance as (

    select
        month_start_at,
        carrier_code,
        scheduled_flights,
        cancelled_flights,
        arrival_delay_minutes
    from {{ ref('fct_carrier_performance_monthly') }}

)

select
    month_start_at,
    carrier_code,
    scheduled_flights,
    cancelled_flights,
    arrival_delay_minutes,
    {{ usd('arrival_delay_minutes * ' ~ var('delay_cost_per_minute_usd')) }} as delay_cost_usd,
    {{ usd('cancelled_flights * ' ~ var('cancellation_cost_usd')) }} as cancellation_cost_usd
from performance
