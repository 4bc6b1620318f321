with airlines as (

    select
        carrier_code,
        airline_name
    from {{ ref('stg_nycflights__airlines') }}

),

airline_groups as (

    select
        carrier_code,
        short_name,
        alliance,
        business_model
    from {{ ref('airline_groups') }}

)

select
    airlines.carrier_code,
    airlines.airline_name,
    coalesce(airline_groups.short_name, airlines.airline_name) as short_name,
    airline_groups.alliance,
    coalesce(airline_groups.business_model, 'unknown') as business_model,
    coalesce(airline_groups.business_model = 'regional', false) as is_regional
from airlines
left join airline_groups on airlines.carrier_code = airline_groups.carrier_code
