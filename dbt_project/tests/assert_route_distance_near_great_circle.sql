-- A wrong coordinate in the airports source shows as a distance no airline would file.
select
    origin_code,
    destination_code,
    distance_miles,
    great_circle_miles
from {{ ref('dim_routes') }}
where abs(distance_miles - great_circle_miles) > 25
