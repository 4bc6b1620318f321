with airport_days as (

    select
        {{ time_utils.start_of('month', 'flight_date') }} as month_start_at,
        scheduled_flights,
        cancelled_flights,
        diverted_flights,
        on_time_flights,
        arrival_delay_minutes
    from {{ ref('fct_airport_performance_daily') }}

),

causes as (

    select
        month_start_at,
        sum(affected_flights) as affected_flights,
        sum(case when likely_cause = 'weather' then affected_flights else 0 end)
            as weather_affected_flights
    from {{ ref('fct_delay_causes_monthly') }}
    group by month_start_at

),

months as (

    select
        month_start_at,
        sum(scheduled_flights) as scheduled_flights,
        sum(cancelled_flights) as cancelled_flights,
        sum(diverted_flights) as diverted_flights,
        sum(on_time_flights) as on_time_flights,
        sum(arrival_delay_minutes) as arrival_delay_minutes
    from airport_days
    group by month_start_at

)

select
    months.month_start_at,
    months.scheduled_flights,
    months.cancelled_flights,
    months.diverted_flights,
    months.on_time_flights,
    months.arrival_delay_minutes,
    {{ share('months.on_time_flights', 'months.scheduled_flights') }} as on_time_rate,
    {{ share('causes.weather_affected_flights', 'causes.affected_flights') }}
        as weather_share_of_disruption
from months
left join causes on months.month_start_at = causes.month_start_at
