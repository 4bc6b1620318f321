{{ config(meta={'dagster': {'ref': {'name': 'fct_airport_performance_daily'}}}) }}

-- Only days that both models hold: a backfill builds them one after the other.
with flights as (

    select
        flight_date,
        origin_code,
        count(*) as scheduled_flights
    from {{ ref('fct_flights') }}
    group by flight_date, origin_code

),

airport_days as (

    select
        flight_date,
        origin_code,
        scheduled_flights
    from {{ ref('fct_airport_performance_daily') }}

)

select
    airport_days.flight_date,
    airport_days.origin_code,
    airport_days.scheduled_flights,
    flights.scheduled_flights as flights_in_fact
from airport_days
inner join flights
    on
        airport_days.flight_date = flights.flight_date
        and airport_days.origin_code = flights.origin_code
where airport_days.scheduled_flights <> flights.scheduled_flights
