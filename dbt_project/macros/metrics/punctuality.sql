{% macro is_on_time(delay_minutes) -%}
    ({{ delay_minutes }} < {{ var('on_time_threshold_minutes') }})
{%- endmacro %}


{% macro share(part, whole, digits=4) -%}
    round(cast({{ part }} as double) / nullif({{ whole }}, 0), {{ digits }})
{%- endmacro %}


{% macro flight_counts() -%}
    {#- Cast, because DuckDB sums and counts conditions as 128-bit integers, which few clients read. -#}
    cast(count(*) as bigint) as scheduled_flights,
    cast(count_if(flight_status = 'cancelled') as bigint) as cancelled_flights,
    cast(count_if(flight_status = 'diverted') as bigint) as diverted_flights,
    cast(count_if(flight_status = 'completed') as bigint) as completed_flights,
    cast(count_if(is_on_time) as bigint) as on_time_flights
{%- endmacro %}


{% macro minutes_late(delay_minutes) -%}
    {#- Early flights do not make up for late ones. -#}
    cast(sum(case when {{ delay_minutes }} > 0 then {{ delay_minutes }} else 0 end) as bigint)
{%- endmacro %}
