{{ config(
    pre_hook="create table if not exists main.audit (what varchar)",
    post_hook=[
        "update {{ this }} set segment = 'unknown' where segment is null",
        "{{ touch('score', var('fallback_score', 1)) }}",
    ]
) }}

select customer_id, segment, score from {{ ref('stg_customers') }}
