select
    flight_key,
    flight_status,
    arrival_delay_minutes
from {{ ref('fct_flights') }}
where flight_status <> 'completed' and arrival_delay_minutes is not null
