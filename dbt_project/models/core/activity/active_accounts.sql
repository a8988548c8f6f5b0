-- Grain: account_id, activity_on, application, channel. Activity that counts, with the account's attributes that segments and cohorts need.
-- Deleted accounts count until they were deleted; home_application is the account's own, application the events'.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['account_id', 'activity_on', 'application', 'channel'], affected_by=['account_id', 'activity_on'],
    scope_of={'accounts': {'through': 'activity_days', 'on': 'account_id'}},
    touches=['activity_on'],
    ordered_by=['activity_on', 'account_id'], indexes=[{'columns': ['account_id', 'activity_on']}, {'columns': ['activity_on']}]
) }}

with days as (
    select * from {{ ref('activity_days') }}
    where {{ only_affected('account_id, activity_on') }}
),

accounts as (
    select * from {{ ref('accounts') }}
)

select
    days.account_id,
    days.activity_on,
    days.application,
    days.channel,
    accounts.account_type,
    accounts.application as home_application
from days
left join accounts on days.account_id = accounts.account_id
where accounts.deleted_at is null or days.first_at < accounts.deleted_at
