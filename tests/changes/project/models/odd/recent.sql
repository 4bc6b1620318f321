select order_id from {{ ref('stg_orders') }} where placed_at >= '{{ var("first_day") }}'
