with flights as (

    select
        origin_code,
        {{ time_utils.iso_weekday('flight_date') }} as iso_weekday,
        extract(hour from scheduled_departure_at) as departure_hour,
        flight_status,
        is_on_time,
        departure_delay_minutes
    from {{ ref('fct_flights') }}

)

select
    origin_code,
    cast(iso_weekday as integer) as iso_weekday,
    cast(departure_hour as integer) as departure_hour,
    {{ flight_counts() }},
    round(avg(departure_delay_minutes), 1) as average_departure_delay_minutes,
    median(departure_delay_minutes) as median_departure_delay_minutes,
    {{ share('count_if(is_on_time)', 'count(*)') }} as on_time_rate
from flights
group by origin_code, iso_weekday, departure_hour
