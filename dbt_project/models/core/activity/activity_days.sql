-- Grain: account_id, activity_on, application, channel. The days on which an account was active (docs/semantics.md, Activity):
-- events with an account whose name does not end in _failed, by the event's application.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['account_id', 'activity_on', 'application', 'channel'], affected_by=['account_id', 'activity_on'],
    touches=['activity_on'],
    ordered_by=['account_id', 'activity_on'], indexes=[{'columns': ['account_id', 'activity_on']}, {'columns': ['activity_on']}]
) }}

with events as (
    {{ events_in_hours('activity_on', '1 day') }}
)

select
    account_id,
    occurred_at::date as activity_on,
    application,
    coalesce(channel, '(unknown)') as channel,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at,
    count(*) as events
from events
where account_id is not null
    and event_name not like '%\_failed'
    and {{ only_affected('account_id, occurred_at::date') }}
group by 1, 2, 3, 4
