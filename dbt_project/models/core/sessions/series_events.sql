-- Grain: application, segment, segment_value. When each series of the event metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with hours as (
    select
        application,
        event_name,
        event_hour as happened_at
    from {{ ref('event_hours') }}
),

tools as (
    select
        application,
        tool,
        event_hour as happened_at
    from {{ ref('event_hours') }}
    where event_name = 'tool.invoked'
)

select * from ({{ first_appearances('hours', ['event_name']) }}) as event_series
union all
select * from ({{ first_appearances('tools', ['tool']) }}) as tool_series
where segment = 'tool'
