-- Grain: account_id, used_on, application, feature. The days on which an account used a feature.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['account_id', 'used_on', 'application', 'feature'], affected_by=['account_id', 'used_on'],
    scope_of={'stg_events': {'where': "event_name = 'feature.used'"}},
    touches=['used_on'],
    ordered_by=['used_on', 'account_id'], indexes=[{'columns': ['account_id', 'used_on']}, {'columns': ['used_on']}]
) }}

with events as (
    {{ events_in_hours('used_on', '1 day') }}
)

select
    account_id,
    occurred_at::date as used_on,
    application,
    left(coalesce({{ json_text('properties', 'feature') }}, '(unknown)'), 100) as feature,
    min(occurred_at) as first_at
from events
where account_id is not null
    and event_name = 'feature.used'
    and {{ only_affected('account_id, occurred_at::date') }}
group by 1, 2, 3, 4
