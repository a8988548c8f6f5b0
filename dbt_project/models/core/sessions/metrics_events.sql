-- Grain: metric_id, grain, period_start, application, segment, segment_value. Events by name, tools by their own.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}

with hours as (
    select
        application,
        event_name,
        events,
        case when event_name = 'tool.invoked' then events else 0 end as tool_invocations,
        event_hour as happened_at
    from {{ ref('event_hours') }}
),

tools as (
    select
        application,
        tool,
        events as tool_invocations,
        event_hour as happened_at
    from {{ ref('event_hours') }}
    where event_name = 'tool.invoked'
),

series as (
    select * from {{ ref('series_events') }}
),

measured as (
    {{ cube('hours', {'events': 'sum(r.events)', 'tool_invocations': 'sum(r.tool_invocations)'}, ['event_name'], grains) }}
    union all
    select * from (
        {{ cube('tools', {'events': 'null::numeric', 'tool_invocations': 'sum(r.tool_invocations)'}, ['tool'], grains) }}
    ) as by_tool
    where segment = 'tool'
),

complete as (
    {{ filled('measured', 'series', ['events', 'tool_invocations'], grains) }}
)

{{ metric_rows('complete', {
    'tracked_events': ['events', none],
    'tool_invocations': ['tool_invocations', none],
}) }}
