select
    calendar_date,
    calendar_year,
    month_of_year,
    month_start_at,
    day_of_month,
    iso_weekday,
    case iso_weekday
        when 1 then 'Monday'
        when 2 then 'Tuesday'
        when 3 then 'Wednesday'
        when 4 then 'Thursday'
        when 5 then 'Friday'
        when 6 then 'Saturday'
        else 'Sunday'
    end as weekday_name,
    is_weekend,
    case
        when month_of_year in (12, 1, 2) then 'winter'
        when month_of_year in (3, 4, 5) then 'spring'
        when month_of_year in (6, 7, 8) then 'summer'
        else 'autumn'
    end as season
from {{ ref('time_utils', 'calendar_days') }}
