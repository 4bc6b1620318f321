{% set kinds = run_query('select distinct kind from ' ~ ref('stg_events') ~ ' order by kind') %}
select
    customer_id,
    {% if execute %}
    {% for kind in kinds.columns[0].values() %}
    count(*) filter (where kind = '{{ kind }}') as "{{ kind }}_events",
    {% endfor %}
    {% endif %}
    count(*) as events
from {{ ref('stg_events') }}
group by customer_id
