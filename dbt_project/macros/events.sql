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

{# The events of all sessions, or of the affected ones: their days are those of the session as it stood and of what changed. #}
{% macro events_of_sessions() -%}
    {%- if is_incremental() -%}
    select e.*
    from (
        select distinct days.day
        from affected_{{ model.name }} as a
        left join {{ this }} as standing
            on a.application = standing.application and a.session_id = standing.session_id
        cross join lateral generate_series(
            date_trunc('day', least(a.first_at, standing.started_at)), greatest(a.last_at, standing.ended_at), interval '1 day'
        ) as days (day)
    ) as d
    cross join lateral (
        select * from {{ ref('stg_events') }} as s
        where s.occurred_at >= d.day and s.occurred_at < d.day + interval '1 day'
        offset 0
    ) as e
    where {{ only_affected('e.application, e.session_id') }}
    {%- else -%}
    select * from {{ ref('stg_events') }}
    where session_id is not null
    {%- endif -%}
{%- endmacro %}
