with days as (

    {{ dbt.date_spine(
        datepart='day',
        start_date="cast('" ~ var('calendar_start_date') ~ "' as date)",
        end_date="cast('" ~ var('calendar_end_date') ~ "' as date)",
    ) }}

)

select
    cast(date_day as timestamp) as calendar_date,
    cast(extract(year from date_day) as integer) as calendar_year,
    cast(extract(month from date_day) as integer) as month_of_year,
    cast(extract(day from date_day) as integer) as day_of_month,
    cast({{ time_utils.iso_weekday('date_day') }} as integer) as iso_weekday,
    {{ time_utils.start_of('month', 'date_day') }} as month_start_at,
    {{ time_utils.iso_weekday('date_day') }} >= 6 as is_weekend
from days
