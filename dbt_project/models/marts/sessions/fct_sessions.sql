-- Grain: application, session_id. Sessions, each from its first event to its last, in the channel and country of the first.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental', unique_key=['application', 'session_id'],
    affected_by=['application', 'session_id'], touches=['started_at'], meta={'lookups': [['account_id']]},
    ordered_by=['started_at'], indexes=[{'columns': ['application', 'session_id'], 'unique': true}, {'columns': ['started_at']}]
) }}
{% set in_order = ['occurred_at', by_bytes('event_id')] %}

with events as (
    {{ events_of_sessions() }}
)

select
    application,
    session_id,
    min(occurred_at) as started_at,
    max(occurred_at) as ended_at,
    {{ seconds_between('min(occurred_at)', 'max(occurred_at)') }} as duration_seconds,
    {{ first_value_by('channel', in_order) }} as channel,
    {{ first_value_by('country', in_order) }} as country,
    {{ first_value_by('account_id', in_order, where='account_id is not null') }} as account_id,
    count(*) as events,
    count(*) filter (where event_name = 'tool.invoked') as tool_invocations
from events
group by application, session_id
