select
    cast(carrier_code as varchar) as carrier_code,
    cast(airline_name as varchar) as airline_name,
    cast(short_name as varchar) as short_name,
    cast(alliance as varchar) as alliance,
    cast(business_model as varchar) as business_model,
    cast(is_regional as boolean) as is_regional
from {{ ref('int_airlines__classified') }}
