-- Grain: application, event_hour, event_name, tool. Number of events; `tool` is '' except for tool.invoked.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'event_hour', 'event_name', 'tool'], affected_by=['event_hour'], touches=['event_hour'],
    ordered_by=['event_hour'], indexes=[{'columns': ['event_hour']}]
) }}

with events as (
    {{ events_in_hours('event_hour') }}
)

select
    application,
    {{ start_of('hour', 'occurred_at') }} as event_hour,
    event_name,
    case when event_name = 'tool.invoked' then left(coalesce({{ json_text('properties', 'tool') }}, '(unknown)'), 100) else '' end as tool,
    count(*) as events,
    count(*) filter (where event_name = 'tool.invoked' and {{ json_text('properties', 'status') }} = 'error') as failed_events,
    count(*) filter (where event_name = 'tool.invoked' and {{ json_text('properties', 'status') }} is not null) as events_with_status
from events
group by 1, 2, 3, 4
