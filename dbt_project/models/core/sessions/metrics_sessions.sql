-- Grain: metric_id, grain, period_start, application, segment, segment_value. Number and duration of sessions, and what happened in them.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set measures = {
    'sessions': 'sum(r.sessions)',
    'seconds': 'sum(r.seconds)',
    'tool_sessions': 'sum(r.tool_sessions)',
    'tool_invocations': 'sum(r.tool_invocations)',
    'messages': 'sum(r.messages)',
} %}

with happenings as (
    select
        session_id,
        application,
        coalesce(channel, '(unknown)') as channel,
        started_at as happened_at,
        1 as sessions,
        duration_seconds as seconds,
        (tool_invocations > 0)::int as tool_sessions,
        tool_invocations,
        0 as messages
    from {{ ref('fct_sessions') }}
    union all
    select
        null,
        application,
        channel,
        message_hour,
        0,
        0,
        0,
        0,
        messages
    from {{ ref('message_hours') }}
),

series as (
    select * from {{ ref('series_sessions') }}
),

-- messages by clock hour: the busiest one is a period's peak
message_loads as (
    select
        case when grouping(application) = 1 then 'all' else application end as application,
        message_hour,
        sum(messages) as messages
    from {{ ref('message_hours') }}
    where {{ at_or_after_affected('message_hour', grains=grains) }}
    group by grouping sets ((message_hour, application), (message_hour))
),

peaks as (
    {{ measured('message_loads', {'peak_messages': 'max(r.messages)'}, [], grains, at='message_hour', has_totals=true) }}
    select
        g.grain,
        g.period_start,
        message_loads.application,
        '' as segment,
        '' as segment_value,
        max(message_loads.messages) as peak_messages
    from message_loads
    cross join lateral {{ grain_starts('message_loads.message_hour', grains) }} as g (grain, period_start)
    group by 1, 2, 3
),

measured as (
    {{ cube('happenings', measures, ['channel'], grains) }}
),

placed as (
    {{ in_series({'measured': measures, 'peaks': ['peak_messages']}, 'series', grains) }}
)

{{ metric_rows('placed', {
    'sessions': ['sessions', none],
    'session_duration': ['seconds', 'sessions'],
    'messages_per_session': ['messages', 'sessions'],
    'tools_per_session': ['tool_invocations', 'tool_sessions'],
    'peak_messages_per_hour': ['peak_messages', none],
}) }}
