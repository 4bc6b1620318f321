select {{ function('doubled') }}(order_id::integer) as twice from {{ ref('stg_orders') }}
