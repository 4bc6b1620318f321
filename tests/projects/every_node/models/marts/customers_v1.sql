select customer_id, sum(amount) as amount from {{ ref("int_ephemeral") }} group by 1
