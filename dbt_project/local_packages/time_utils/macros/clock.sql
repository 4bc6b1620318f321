{% macro hhmm_to_minutes(hhmm) -%}
    (cast(floor({{ hhmm }} / 100) as integer) * 60 + mod({{ hhmm }}, 100))
{%- endmacro %}


{% macro timestamp_from_parts(year, month, day, hour=0, minute=0) -%}
    {{ return(adapter.dispatch('timestamp_from_parts', 'time_utils')(year, month, day, hour, minute)) }}
{%- endmacro %}

{% macro default__timestamp_from_parts(year, month, day, hour, minute) -%}
    timestamp_ntz_from_parts({{ year }}, {{ month }}, {{ day }}, {{ hour }}, {{ minute }}, 0)
{%- endmacro %}

{% macro duckdb__timestamp_from_parts(year, month, day, hour, minute) -%}
    make_timestamp({{ year }}, {{ month }}, {{ day }}, {{ hour }}, {{ minute }}, 0)
{%- endmacro %}
