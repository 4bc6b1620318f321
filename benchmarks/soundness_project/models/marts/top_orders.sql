select order_id, cents, "Mixed Case", from_env
from (
    select
        order_id, cents, quantity as "Mixed Case",
        '{{ env_var("SOUNDNESS_LABEL", "none") }}' as from_env
    from {{ ref('stg_orders') }}
    order by cents desc, order_id
    limit 10 offset 1
) as top
