with observations as (

    select
        {{ time_utils.start_of('day', 'observed_at') }} as weather_date,
        airport_code,
        weather_condition,
        temperature_f,
        wind_gust_mph,
        wind_speed_mph,
        precipitation_inches,
        visibility_miles
    from {{ ref('fct_weather_hourly') }}

)

select
    weather_date,
    airport_code,
    count(*) as observed_hours,
    count_if(weather_condition <> 'fair') as adverse_hours,
    min(temperature_f) as lowest_temperature_f,
    max(temperature_f) as highest_temperature_f,
    max(coalesce(wind_gust_mph, wind_speed_mph)) as strongest_wind_mph,
    round(sum(precipitation_inches), 2) as precipitation_inches,
    min(visibility_miles) as lowest_visibility_miles
from observations
group by weather_date, airport_code
