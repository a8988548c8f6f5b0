-- Grain: account_id. Accounts, with the milestones that cohort metrics count.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='account_id', affected_by=['account_id'],
    scope_of={'accounts': [{}, {'through': 'accounts', 'on': 'related.referred_by_account_id = changed.account_id'}]},
    touches=['created_at'], quiet=['last_active_at'], indexes=[{'columns': ['account_id'], 'unique': true}, {'columns': ['created_at']}]
) }}

with accounts as (
    select * from {{ ref('accounts') }}
    where {{ only_affected('account_id') }}
),

referrers as (
    select * from {{ ref('accounts') }}
),

subscription_periods as (
    select * from {{ rows_of_affected(ref('fct_subscription_periods'), ['account_id']) }} as periods
    where mrr_in_currency > 0 and (counts_until_on > counts_from_on or counts_until_on is null)
),

first_mrr as (
    select
        account_id,
        min(valid_from) as first_mrr_at
    from subscription_periods
    group by account_id
),

-- deleted accounts count until they were deleted
activity as (
    select
        accounts.account_id,
        bool_or(days.activity_on = accounts.created_at::date + 1) as was_active_on_day_1,
        bool_or(days.activity_on = accounts.created_at::date + 7) as was_active_on_day_7,
        bool_or(days.activity_on = accounts.created_at::date + 30) as was_active_on_day_30,
        bool_or(days.activity_on = accounts.created_at::date + 90) as was_active_on_day_90,
        bool_or(days.activity_on >= accounts.created_at::date + 30) as was_active_after_30_days,
        min(days.first_at) as first_active_at,
        max(days.last_at) as last_active_at
    from accounts
    inner join {{ rows_of_affected(ref('activity_days'), ['account_id']) }} as days
        on accounts.account_id = days.account_id
        and (accounts.deleted_at is null or days.first_at < accounts.deleted_at)
    group by accounts.account_id
),

activation as (
    select distinct accounts.account_id
    from accounts
    inner join {{ rows_of_affected(ref('activation_days'), ['account_id']) }} as days
        on accounts.account_id = days.account_id
        and days.last_at >= accounts.created_at
        and days.first_at <= accounts.created_at + interval '7 days'
)

select
    accounts.account_id,
    accounts.application,
    accounts.account_type,
    accounts.country,
    accounts.legal_entity,
    accounts.acquisition_channel,
    accounts.referred_by_account_id,
    referrers.application as referrer_application,
    accounts.telemetry_opt_in,
    accounts.email as email_hash,
    accounts.created_at,
    accounts.deleted_at,
    first_mrr.first_mrr_at,
    coalesce(first_mrr.first_mrr_at <= accounts.created_at + interval '30 days', false) as has_paid_within_30_days,
    activation.account_id is not null as has_activated_within_7_days,
    coalesce(activity.was_active_on_day_1, false) as was_active_on_day_1,
    coalesce(activity.was_active_on_day_7, false) as was_active_on_day_7,
    coalesce(activity.was_active_on_day_30, false) as was_active_on_day_30,
    coalesce(activity.was_active_on_day_90, false) as was_active_on_day_90,
    coalesce(activity.was_active_after_30_days, false) as was_active_after_30_days,
    activity.first_active_at,
    activity.last_active_at
from accounts
left join referrers on accounts.referred_by_account_id = referrers.account_id
left join first_mrr on accounts.account_id = first_mrr.account_id
left join activity on accounts.account_id = activity.account_id
left join activation on accounts.account_id = activation.account_id
