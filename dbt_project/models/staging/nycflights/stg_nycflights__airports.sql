select
    cast(faa as varchar) as airport_code,
    trim(cast(name as varchar)) as airport_name,
    cast(lat as double) as latitude,
    cast(lon as double) as longitude,
    cast(alt as integer) as altitude_feet,
    cast(tzone as varchar) as time_zone,
    cast(loaded_at as timestamp) as loaded_at
from {{ source('nycflights', 'airports') }}
