select customer_id, amount from {{ ref("customers") }} where amount > {{ var("big") }}
