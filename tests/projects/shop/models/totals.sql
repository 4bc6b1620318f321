select sum(orders) as orders from {{ ref("customers") }}
