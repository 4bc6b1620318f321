{{ config(event_time='observed_at') }}

select
    cast(origin as varchar) as airport_code,
    {{ time_utils.timestamp_from_parts('year', 'month', 'day', 'hour') }} as observed_at,
    cast(time_hour as timestamp) as observed_utc_at,
    cast(temp as double) as temperature_f,
    cast(dewp as double) as dew_point_f,
    cast(humid as double) as relative_humidity,
    cast(wind_dir as integer) as wind_direction_degrees,
    -- One reading says 1,048 mph; no surface wind outside a tornado passes 250.
    case when wind_speed < 250 then cast(wind_speed as double) end as wind_speed_mph,
    cast(wind_gust as double) as wind_gust_mph,
    cast(precip as double) as precipitation_inches,
    cast(pressure as double) as pressure_millibars,
    cast(visib as double) as visibility_miles,
    cast(loaded_at as timestamp) as loaded_at
from {{ source('nycflights', 'weather') }}
