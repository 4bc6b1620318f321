{{ config(event_time='happened_at') }}

select event_id, customer_id, kind, cast(moment as timestamp) as happened_at, value
from {{ ref('raw_events') }}
where kind <> 'noise'
