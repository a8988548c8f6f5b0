-- Grain: anonymous_id, account_id, linked_on. The days on which an anonymous visitor was identified as an account.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['anonymous_id', 'account_id', 'linked_on'], affected_by=['linked_on', 'anonymous_id'],
    indexes=[{'columns': ['anonymous_id', 'linked_on']}]
) }}

with events as (
    {{ events_in_hours('linked_on', '1 day') }}
)

select
    anonymous_id,
    account_id,
    occurred_at::date as linked_on,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at
from events
where anonymous_id is not null
    and account_id is not null
    and {{ only_affected('occurred_at::date, anonymous_id') }}
group by 1, 2, 3
