{# All rows of a staging view, or in an incremental build those of the affected hours (or days), read through the index on their time. #}
{% macro rows_in_windows(view, time, column, step='1 hour') -%}
    {%- if is_incremental() -%}
    select e.*
    from (select distinct {{ column }}::timestamptz as window_start from affected_{{ model.name }}) as a
    cross join lateral (
        select * from {{ ref(view) }} as s
        where s.{{ time }} >= a.window_start and s.{{ time }} < a.window_start + interval '{{ step }}'
        offset 0
    ) as e
    {%- else -%}
    select * from {{ ref(view) }}
    {%- endif -%}
{%- endmacro %}

{% macro events_in_hours(column, step='1 hour') -%}
    {{ rows_in_windows('stg_events', 'occurred_at', column, step) }}
{%- endmacro %}

{# The events of all sessions, or of the affected ones: their days are those of the session as it stood and of what changed. #}
{% macro events_of_sessions() -%}
    {%- if is_incremental() -%}
    select e.*
    from (
        select distinct days.day
        from affected_{{ model.name }} as a
        left join {{ this }} as old_sessions
            on a.application = old_sessions.application and a.session_id = old_sessions.session_id
        cross join lateral generate_series(
            {{ start_of('day', 'least(a.first_at, old_sessions.started_at)') }}, greatest(a.last_at, old_sessions.ended_at), interval '1 day'
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

{# The events of a relation with their visitor: the account, else the account that next carries the same anonymous_id (at or after the
   event; told apart by day), else the anonymous_id. #}
{% macro with_visitors(relation) -%}
    select
        source_events.*,
        coalesce(source_events.account_id, next_link.account_id, source_events.anonymous_id) as visitor_id
    from {{ relation }} as source_events
    left join lateral (
        select links.account_id
        from {{ ref('identity_links') }} as links
        where links.anonymous_id = source_events.anonymous_id
            and links.last_at >= source_events.occurred_at
            and source_events.account_id is null
        order by greatest(links.first_at, source_events.occurred_at), links.account_id
        limit 1
    ) as next_link on true
{%- endmacro %}
