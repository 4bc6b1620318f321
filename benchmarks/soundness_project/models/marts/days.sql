with recursive days(day, number) as (
    select cast('{{ var("day_zero") }}' as date), 1
    union all
    select cast(day + interval 1 day as date), number + 1 from days where number < 40
)

select d.day, d.number, dayname(d.day) as name, count(o.order_id) as orders
from days as d
left join {{ ref('stg_orders') }} as o on d.day = o.ordered_on
group by d.day, d.number
