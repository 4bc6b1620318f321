select customer_id, sum(amount) as amount, count(*) as orders from {{ ref("int_ephemeral") }} group by 1
