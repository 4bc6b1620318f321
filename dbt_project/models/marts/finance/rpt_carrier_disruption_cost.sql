with costs as (

    select
        carrier_code,
        sum(scheduled_flights) as scheduled_flights,
        sum(delay_cost_usd) as delay_cost_usd,
        sum(cancellation_cost_usd) as cancellation_cost_usd
    from {{ ref('fct_delay_costs_monthly') }}
    group by carrier_code

),

capacity as (

    select
        carrier_code,
        sum(available_seat_miles) as available_seat_miles,
        sum(flights_with_known_seats) as flights_with_known_seats,
        sum(completed_flights) as completed_flights
    from {{ ref('fct_seat_capacity_monthly') }}
    group by carrier_code

),

airlines as (

    select
        carrier_code,
        airline_name,
        alliance
    from {{ ref('dim_airlines') }}

)

select
    costs.carrier_code,
    airlines.airline_name,
    airlines.alliance,
    costs.scheduled_flights,
    costs.delay_cost_usd,
    costs.cancellation_cost_usd,
    {{ usd('costs.delay_cost_usd + costs.cancellation_cost_usd') }} as disruption_cost_usd,
    {{ share('costs.delay_cost_usd + costs.cancellation_cost_usd', 'costs.scheduled_flights', 2) }}
        as disruption_cost_per_flight_usd,
    capacity.available_seat_miles,
    {{ share('capacity.flights_with_known_seats', 'capacity.completed_flights') }} as seat_coverage
from costs
left join capacity on costs.carrier_code = capacity.carrier_code
left join airlines on costs.carrier_code = airlines.carrier_code
