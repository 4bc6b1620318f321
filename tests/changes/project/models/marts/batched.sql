{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='placed_at',
          batch_size='day', begin='2026-01-01', lookback=1, on_schema_change='append_new_columns') }}
select order_id, placed_at, amount from {{ ref('stg_orders_timed') }}
