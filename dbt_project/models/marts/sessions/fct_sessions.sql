-- Grain: application, session_id. Sessions, each from its first event to its last, in the channel and country of the first.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['application', 'session_id'],
    affected_by=['application', 'session_id'], touches=['started_at'],
    ordered_by=['started_at'], indexes=[{'columns': ['application', 'session_id'], 'unique': true}, {'columns': ['started_at']}]
) }}

with events as (
    {{ events_of_sessions() }}
)

select
    application,
    session_id,
    min(occurred_at) as started_at,
    max(occurred_at) as ended_at,
    extract(epoch from max(occurred_at) - min(occurred_at)) as duration_seconds,
    (array_agg(channel order by occurred_at, event_id))[1] as channel,
    (array_agg(country order by occurred_at, event_id))[1] as country,
    (array_agg(account_id order by occurred_at, event_id) filter (where account_id is not null))[1] as account_id,
    count(*) as events,
    count(*) filter (where event_name = 'tool.invoked') as tool_invocations
from events
group by application, session_id
