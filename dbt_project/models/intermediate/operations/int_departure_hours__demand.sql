with flights as (

    select
        origin_code,
        scheduled_hour_utc_at,
        carrier_code
    from {{ ref('int_flights__outcomes') }}

)

select
    origin_code,
    scheduled_hour_utc_at,
    count(*) as scheduled_departures,
    count(distinct carrier_code) as airlines,
    count(*) >= {{ var('congested_departures_per_hour') }} as is_congested
from flights
group by origin_code, scheduled_hour_utc_at
