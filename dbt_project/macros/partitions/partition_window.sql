{% macro partition_window() -%}
    {#- A full refresh drops the table, so a window must not decide what comes back. -#}
    {%- if should_full_refresh() -%}
        {{ return({'start': none, 'end': none}) }}
    {%- endif -%}
    {{ return({'start': var('partition_start', none), 'end': var('partition_end', none)}) }}
{%- endmacro %}


{% macro in_partition_window(event_time) -%}
    {%- set window = partition_window() -%}
    {%- set bounds = [] -%}
    {%- if window.start -%}
        {%- do bounds.append(event_time ~ " >= cast('" ~ window.start ~ "' as timestamp)") -%}
    {%- endif -%}
    {%- if window.end -%}
        {%- do bounds.append(event_time ~ " < cast('" ~ window.end ~ "' as timestamp)") -%}
    {%- endif -%}
    {{ bounds | join(' and ') if bounds else 'true' }}
{%- endmacro %}


{% macro delete_vanished_dates(event_time, upstream, upstream_event_time) -%}
    {#- delete+insert replaces the dates that have rows; a date that lost its last row would stay. -#}
    delete from {{ this }}
    where {{ in_partition_window(event_time) }}
        and {{ event_time }} not in (
            select {{ upstream_event_time }}
            from {{ upstream }}
            where {{ in_partition_window(upstream_event_time) }}
        )
{%- endmacro %}
