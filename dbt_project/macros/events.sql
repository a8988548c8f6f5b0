{# All events, or in an incremental build those of the affected hours (or days), each read through the index on occurred_at. #}
{% macro events_in_hours(column, step='1 hour') -%}
    {%- if is_incremental() -%}
    select e.*
    from (select distinct {{ column }}::timestamptz as window_start from affected_{{ model.name }}) as a
    cross join lateral (
        select * from {{ ref('stg_events') }} as s
        where s.occurred_at >= a.window_start and s.occurred_at < a.window_start + interval '{{ step }}'
        offset 0
    ) as e
    {%- else -%}
    select * from {{ ref('stg_events') }}
    {%- endif -%}
{%- endmacro %}
