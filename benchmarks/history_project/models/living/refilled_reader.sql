{{ config(materialized='view') }}

select status, sum(cents) as cents from {{ ref('refilled_orders') }} group by status
