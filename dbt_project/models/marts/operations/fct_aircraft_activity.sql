{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='tail_number',
    )
}}

with rotations as (

    select
        tail_number,
        flight_date,
        carrier_code,
        departures,
        air_minutes,
        miles_flown,
        delay_minutes,
        loaded_at
    from {{ ref('int_aircraft__daily_rotations') }}
    {% if is_incremental() %}
        -- All days of an aircraft with news: sums over its new days alone would be wrong.
        where tail_number in (
            select changed.tail_number
            from {{ ref('int_aircraft__daily_rotations') }} as changed
            where changed.loaded_at > (
                select coalesce(max(known.last_loaded_at), cast('1900-01-01' as timestamp))
                from {{ this }} as known
            )
        )
    {% endif %}

),

aircraft as (

    select
        tail_number,
        manufacturer,
        size_class
    from {{ ref('int_aircraft__current') }}

),

activity as (

    select
        tail_number,
        max(carrier_code) as carrier_code,
        count(distinct flight_date) as active_days,
        sum(departures) as departures,
        sum(air_minutes) as air_minutes,
        sum(miles_flown) as miles_flown,
        sum(delay_minutes) as delay_minutes,
        min(flight_date) as first_seen_date,
        max(flight_date) as last_seen_date,
        max(loaded_at) as last_loaded_at
    from rotations
    group by tail_number

)

select
    activity.tail_number,
    activity.carrier_code,
    aircraft.manufacturer,
    aircraft.size_class,
    activity.active_days,
    activity.departures,
    activity.air_minutes,
    activity.miles_flown,
    activity.delay_minutes,
    {{ share('activity.air_minutes', 'activity.active_days', 1) }} as air_minutes_per_active_day,
    activity.first_seen_date,
    activity.last_seen_date,
    activity.last_loaded_at
from activity
left join aircraft on activity.tail_number = aircraft.tail_number
