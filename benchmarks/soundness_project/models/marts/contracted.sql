select order_id, cents, level from (
    select order_id, running_cents as cents, coalesce(first_status, 'none') as level
    from {{ ref('running') }}
)
