-- Grain: metric_id, grain, period_start, application, segment, segment_value. Sessions, how long, and what happened in them.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
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

measured as (
    {{ cube('happenings', measures, ['channel'], grains) }}
),

complete as (
    {{ filled('measured', 'series', measures, grains) }}
)

{{ metric_rows('complete', {
    'sessions': ['sessions', none],
    'session_duration': ['seconds', 'sessions'],
    'messages_per_session': ['messages', 'sessions'],
    'tools_per_session': ['tool_invocations', 'tool_sessions'],
}) }}
