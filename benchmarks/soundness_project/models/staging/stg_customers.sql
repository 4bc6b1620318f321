with source as (
    select * from {{ ref('raw_customers') }}
),

renamed as (
    select
        id as customer_id,
        trim(name) as name,
        {{ clean('country') }} as country,
        segment,
        signed_up,
        score,
        score > 50 as is_good
    from source
)

select * from renamed
