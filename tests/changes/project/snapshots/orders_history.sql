{% snapshot orders_history %}
{{ config(unique_key='order_id', strategy='timestamp', updated_at='placed_at') }}
select order_id, placed_at, status from {{ ref('stg_orders') }}
{% endsnapshot %}
