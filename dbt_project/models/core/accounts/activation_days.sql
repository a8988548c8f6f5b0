-- Grain: account_id, activity_on. The first and last event of the day that shows use of the product.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['account_id', 'activity_on'],
    affected_by=['account_id', 'activity_on'],
    scope_of={'stg_events': {'where': "event_name in ('feature.used', 'tool.invoked', 'booking.requested')"}},
    touches=['activity_on'],
    ordered_by=['account_id'], indexes=[{'columns': ['account_id', 'activity_on']}]
) }}

with events as (
    {{ events_in_hours('activity_on', '1 day') }}
)

select
    account_id,
    occurred_at::date as activity_on,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at
from events
where account_id is not null
    and event_name in ('feature.used', 'tool.invoked', 'booking.requested')
    and {{ only_affected('account_id, occurred_at::date') }}
group by account_id, occurred_at::date
