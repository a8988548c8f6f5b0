-- Grain: application, segment, segment_value. When each series of the event metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['event_hours'] %}

with hours as (
    select
        application,
        event_name,
        event_hour as happened_at
    from {{ ref('event_hours') }}
    where {{ since_touched(facts, 'event_hour') }}
),

tools as (
    select
        application,
        tool,
        event_hour as happened_at
    from {{ ref('event_hours') }}
    where event_name = 'tool.invoked' and {{ since_touched(facts, 'event_hour') }}
),

touched_series as (
    select * from ({{ first_appearances('hours', ['event_name']) }}) as event_series
    union all
    select * from ({{ first_appearances('tools', ['tool']) }}) as tool_series
    where segment = 'tool'
)

{{ with_earlier_series('touched_series', facts) }}
