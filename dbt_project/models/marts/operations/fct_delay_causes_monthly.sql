with factors as (

    select
        {{ time_utils.start_of('month', 'flight_date') }} as month_start_at,
        carrier_code,
        origin_code,
        likely_cause,
        arrival_delay_minutes
    from {{ ref('int_flights__delay_factors') }}
    where likely_cause <> 'none'

)

select
    month_start_at,
    carrier_code,
    origin_code,
    likely_cause,
    count(*) as affected_flights,
    {{ minutes_late('arrival_delay_minutes') }} as arrival_delay_minutes
from factors
group by month_start_at, carrier_code, origin_code, likely_cause
