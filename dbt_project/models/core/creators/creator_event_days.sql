-- Grain: account_id, event_name, happened_on. The first and last event of the day, for the events that the creator metrics use.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental', unique_key=['account_id', 'event_name', 'happened_on'],
    affected_by=['account_id', 'happened_on'],
    scope_of={'stg_events': {'where': "event_name in ('creator.onboarding_completed', 'content.created', 'content.updated')"}},
    touches=['happened_on'], indexes=[{'columns': ['account_id', 'happened_on']}]
) }}

with events as (
    {{ rows_in_windows('stg_events', 'occurred_at', 'happened_on', '1 day') }}
)

select
    account_id,
    event_name,
    occurred_at::date as happened_on,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at
from events
where account_id is not null
    and event_name in ('creator.onboarding_completed', 'content.created', 'content.updated')
    and {{ only_affected('account_id, occurred_at::date') }}
group by 1, 2, 3
