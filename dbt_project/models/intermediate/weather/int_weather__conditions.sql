{{ config(materialized='ephemeral', event_time='observed_at') }}

with observations as (

    select
        airport_code,
        observed_at,
        observed_utc_at,
        temperature_f,
        relative_humidity,
        wind_speed_mph,
        wind_gust_mph,
        precipitation_inches,
        visibility_miles,
        coalesce(precipitation_inches > 0, false) as is_wet,
        coalesce(temperature_f <= 32, false) as is_freezing,
        coalesce(wind_speed_mph >= {{ var('strong_wind_mph') }}, false)
        or coalesce(wind_gust_mph >= {{ var('strong_wind_mph') }}, false) as is_windy,
        coalesce(visibility_miles < {{ var('low_visibility_miles') }}, false) as is_low_visibility
    from {{ ref('stg_nycflights__weather') }}

)

select
    airport_code,
    observed_at,
    observed_utc_at,
    temperature_f,
    relative_humidity,
    wind_speed_mph,
    wind_gust_mph,
    precipitation_inches,
    visibility_miles,
    is_wet,
    is_freezing,
    is_windy,
    is_low_visibility,
    case
        when is_wet and is_freezing then 'ice or snow'
        when is_low_visibility then 'low visibility'
        when is_wet then 'rain'
        when is_windy then 'strong wind'
        else 'fair'
    end as weather_condition
from observations
