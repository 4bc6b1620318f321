with registry as (

    select
        tail_number,
        manufactured_year,
        aircraft_type,
        manufacturer,
        model_name,
        engine_count,
        seat_count,
        engine_type,
        dbt_valid_from
    from {{ ref('planes_history') }}
    where dbt_valid_to is null

)

select
    tail_number,
    manufactured_year,
    aircraft_type,
    case
        when manufacturer like 'AIRBUS%' then 'AIRBUS'
        when manufacturer like 'MCDONNELL DOUGLAS%' then 'MCDONNELL DOUGLAS'
        when manufacturer in ('CANADAIR', 'CANADAIR LTD') then 'BOMBARDIER'
        when manufacturer like 'BOMBARDIER%' then 'BOMBARDIER'
        else manufacturer
    end as manufacturer,
    model_name,
    engine_count,
    engine_type,
    seat_count,
    case
        when seat_count < 20 then 'small'
        when seat_count < 100 then 'regional jet'
        when seat_count < 240 then 'narrow body'
        else 'wide body'
    end as size_class,
    dbt_valid_from as registered_since
from registry
