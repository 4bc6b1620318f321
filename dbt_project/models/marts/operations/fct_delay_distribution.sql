with flights as (

    select
        carrier_code,
        arrival_delay_minutes
    from {{ ref('fct_flights') }}
    where flight_status = 'completed'

),

buckets as (

    select
        delay_bucket,
        sort_order,
        from_minutes,
        until_minutes
    from {{ ref('delay_buckets') }}

),

counted as (

    select
        flights.carrier_code,
        buckets.delay_bucket,
        buckets.sort_order,
        count(*) as completed_flights
    from flights
    inner join buckets
        on
            flights.arrival_delay_minutes >= coalesce(buckets.from_minutes, -100000)
            and flights.arrival_delay_minutes < coalesce(buckets.until_minutes, 100000)
    group by flights.carrier_code, buckets.delay_bucket, buckets.sort_order

)

select
    carrier_code,
    delay_bucket,
    sort_order,
    completed_flights,
    {{ share('completed_flights', 'sum(completed_flights) over (partition by carrier_code)') }}
        as share_of_airline
from counted
