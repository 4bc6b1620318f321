select 1 as nothing from {{ ref("merged") }} cross join {{ ref("stg_orders") }} where false
