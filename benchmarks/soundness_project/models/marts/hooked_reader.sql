select segment, count(*) as customers, sum(score) as score from {{ ref('hooked') }} group by segment
