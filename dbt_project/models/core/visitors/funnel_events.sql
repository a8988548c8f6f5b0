-- Grain: event_id. The events that are stages of a funnel, or a landing.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='event_id', affected_by=['event_id'],
    scope_of={'stg_events': {'occurred_at': 'occurred_at'}},
    touches=['occurred_at'],
    indexes=[{'columns': ['event_id'], 'unique': true}, {'columns': ['anonymous_id']}]
) }}

with stages as (
    select split_part(event_name, '#', 1) as event_name from {{ ref('funnels') }}
    union
    select 'page.landing'
),

events as (
    {{ events_in_hours(start_of('hour', 'occurred_at')) }}
)

select
    events.event_id,
    events.event_name,
    events.occurred_at,
    events.application,
    events.country,
    events.account_id,
    events.anonymous_id
from events
inner join stages on events.event_name = stages.event_name
where coalesce(events.account_id, events.anonymous_id) is not null
    and {{ only_affected('events.event_id') }}
