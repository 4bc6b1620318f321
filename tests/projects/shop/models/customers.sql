select customer_id, sum(amount) as amount, count(*) as orders from {{ ref("stg_orders") }} group by 1
