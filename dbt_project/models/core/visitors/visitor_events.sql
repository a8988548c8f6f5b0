-- Grain: event_id. Funnel and landing events with their visitor: the account, else the account that next carries the same
-- anonymous_id (at or after the event; told apart by day), else the anonymous_id.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=['event_id', 'visitor_id'],
    affected_by=['event_id'], touches=['occurred_at'],
    indexes=[{'columns': ['visitor_id']}, {'columns': ['event_id']}, {'columns': ['occurred_at']}]
) }}

with events as (
    select * from {{ ref('funnel_events') }}
    where {{ only_affected('event_id') }}
)

select
    events.event_id,
    coalesce(events.account_id, later.account_id, events.anonymous_id) as visitor_id,
    events.event_name,
    events.occurred_at,
    events.application,
    events.country
from events
left join lateral (
    select links.account_id
    from {{ ref('identity_links') }} as links
    where links.anonymous_id = events.anonymous_id
        and links.last_at >= events.occurred_at
        and events.account_id is null
    order by greatest(links.first_at, events.occurred_at), links.account_id
    limit 1
) as later on true
