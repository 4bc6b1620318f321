{{ config(unique_key='event_id', incremental_strategy='delete+insert') }}

select event_id, customer_id, kind, happened_at, value * 2 as doubled
from {{ ref('stg_events') }}
{% if is_incremental() %}
where happened_at > (select max(happened_at) from {{ this }})
{% endif %}
