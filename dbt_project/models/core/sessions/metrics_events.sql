-- Grain: metric_id, grain, period_start, application, segment, segment_value. Events by name, tool invocations by tool, log-ins.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set measures = {
    'events': 'sum(r.events)',
    'tool_invocations': 'sum(r.tool_invocations)',
    'failed_tools': 'sum(r.failed_tools)',
    'logins': 'sum(r.logins)',
    'failed_logins': 'sum(r.failed_logins)',
} %}

with hours as (
    select
        application,
        event_name,
        events,
        case when event_name = 'tool.invoked' then events else 0 end as tool_invocations,
        failed_events as failed_tools,
        case when event_name = 'user.login' then events else 0 end as logins,
        case when event_name = 'user.login_failed' then events else 0 end as failed_logins,
        event_hour as happened_at
    from {{ ref('event_hours') }}
),

tools as (
    select
        application,
        tool,
        events as tool_invocations,
        failed_events as failed_tools,
        event_hour as happened_at
    from {{ ref('event_hours') }}
    where event_name = 'tool.invoked'
),

series as (
    select * from {{ ref('series_events') }}
),

measured as (
    {{ cube('hours', measures, ['event_name'], grains) }}
    union all
    select * from (
        {{ cube('tools', {
            'events': 'null::numeric', 'tool_invocations': 'sum(r.tool_invocations)', 'failed_tools': 'sum(r.failed_tools)',
            'logins': 'null::numeric', 'failed_logins': 'null::numeric',
        }, ['tool'], grains) }}
    ) as by_tool
    where segment = 'tool'
),

placed as (
    {{ in_series({'measured': measures}, 'series', grains) }}
)

{{ metric_rows('placed', {
    'tracked_events': ['events', none],
    'tool_invocations': ['tool_invocations', none],
    'tool_error_rate': ['failed_tools', 'tool_invocations'],
    'auth_success_rate': ['logins', 'logins + failed_logins'],
    'failed_logins': ['failed_logins', none],
}) }}
