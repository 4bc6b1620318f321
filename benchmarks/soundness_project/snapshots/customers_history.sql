{% snapshot customers_history %}
{{ config(
    target_schema='main', unique_key='id', strategy='check', check_cols=['name', 'score']
) }}
select id, name, country, score from {{ ref('raw_customers') }} where id is not null
{% endsnapshot %}
