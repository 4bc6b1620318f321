{{
    config(
        materialized='incremental',
        incremental_strategy='microbatch',
        event_time='observed_at',
        batch_size='day',
        begin='2013-01-01',
        on_schema_change='append_new_columns',
        lookback=2,
        tags=['daily'],
    )
}}

select
    {{ surrogate_key(['airport_code', 'observed_utc_at']) }} as observation_key,
    airport_code,
    observed_at,
    observed_utc_at,
    weather_condition,
    temperature_f,
    relative_humidity,
    wind_speed_mph,
    wind_gust_mph,
    precipitation_inches,
    visibility_miles,
    is_wet,
    is_freezing,
    is_windy,
    is_low_visibility
from {{ ref('int_weather__conditions') }}
