with performance as (

    select
        carrier_code,
        completed_flights,
        on_time_flights
    from {{ ref('fct_carrier_performance_monthly') }}

),

airlines as (

    select
        carrier_code,
        airline_name
    from {{ ref('dim_airlines') }}

),

totals as (

    select
        carrier_code,
        sum(completed_flights) as completed_flights,
        sum(on_time_flights) as on_time_flights
    from performance
    group by carrier_code

)

select
    totals.carrier_code,
    airlines.airline_name,
    totals.completed_flights,
    {{ share('totals.on_time_flights', 'totals.completed_flights') }} as on_time_rate
from totals
left join airlines on totals.carrier_code = airlines.carrier_code
