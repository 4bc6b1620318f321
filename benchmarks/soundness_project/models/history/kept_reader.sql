{{ config(materialized='table') }}

select k.kind, count(*) as events, sum(k.doubled) as doubled, max(b.running) as running
from {{ ref('events_kept') }} as k
left join {{ ref('events_batched') }} as b using (event_id, kind)
group by k.kind
