-- Grain: event_id. Funnel and landing events with their visitor: the account, else the account that next has the same anonymous_id (at or after the
-- event, compared by day), else the anonymous_id.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['event_id', 'visitor_id'],
    affected_by=['event_id'],
    scope_of={'identity_links': {'through': 'funnel_events', 'on': 'anonymous_id'}},
    touches=['occurred_at'],
    ordered_by=['visitor_id'], indexes=[{'columns': ['visitor_id']}, {'columns': ['event_id']}, {'columns': ['event_name', 'occurred_at']}]
) }}

with events as (
    select * from {{ ref('funnel_events') }}
    where {{ only_affected('event_id') }}
),

visited as (
    {{ with_visitors('events') }}
)

select
    event_id,
    visitor_id,
    event_name,
    occurred_at,
    application,
    country
from visited
