-- Grain: subscription_item_id, valid_from. Each interval of a subscription item with its MRR in its own currency.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['subscription_item_id', 'valid_from'],
    affected_by=['account_id'], touches=['valid_from'],
    ordered_by=['account_id'], indexes=[{'columns': ['subscription_item_id', 'valid_from'], 'unique': true}, {'columns': ['account_id']}]
) }}

with subscriptions as (
    select * from {{ ref('stg_subscriptions') }}
    where {{ only_affected('account_id') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

priced as (
    select
        subscriptions.*,
        -- metered items are billed by use: they carry no MRR
        subscriptions.status in ('active', 'past_due') and not coalesce(subscriptions.is_metered, false) as is_counted,
        subscriptions.quantity * subscriptions.unit_amount as list_amount,
        greatest(
            subscriptions.quantity * subscriptions.unit_amount * (1 - coalesce(subscriptions.discount_percent, 0) / 100)
            - coalesce(subscriptions.discount_amount, 0), 0
        ) as period_amount,
        case subscriptions.billing_interval
            when 'month' then 1::numeric
            when 'year' then 1
            when 'week' then 52
            when 'day' then 365
        end as months_numerator,
        subscriptions.interval_count::numeric * case subscriptions.billing_interval when 'month' then 1 else 12 end
            as months_denominator,
        currencies.exponent
    from subscriptions
    left join currencies on subscriptions.currency = currencies.currency
),

monthly as (
    select
        *,
        -- a month's share is a quotient, and so is rounded, at a digit that nothing published shows
        period_amount * months_numerator / months_denominator / power(10::numeric, coalesce(exponent, 2)) as monthly_amount,
        list_amount * months_numerator / months_denominator / power(10::numeric, coalesce(exponent, 2)) as monthly_list_amount
    from priced
),

paying as (
    select
        *,
        max(coalesce(valid_to, 'infinity')) over (
            partition by application, account_id order by valid_from, subscription_item_id
            rows between unbounded preceding and 1 preceding
        ) as paid_until
    from monthly
    where is_counted and monthly_amount > 0
),

-- a gap shorter than the renewal gap is no churn: the MRR that ended carries over to its end
renewal_gaps as (
    select
        application,
        account_id,
        paid_until as gap_start,
        min(valid_from) as gap_end
    from paying
    where valid_from > paid_until and valid_from - paid_until < interval '1 day' * {{ rule('renewal_gap_days') }}
    group by application, account_id, paid_until
)

select
    monthly.subscription_item_id,
    monthly.subscription_id,
    monthly.account_id,
    monthly.application,
    monthly.plan_id,
    monthly.plan_tier,
    monthly.status,
    monthly.cancel_reason,
    monthly.valid_from,
    monthly.valid_to,
    monthly.billing_interval,
    monthly.interval_count,
    monthly.quantity,
    monthly.currency,
    coalesce(monthly.is_metered, false) as is_metered,
    monthly.is_counted,
    case when monthly.is_counted then monthly.monthly_amount else 0 end as mrr_in_currency,
    case when monthly.is_counted then monthly.monthly_list_amount else 0 end as list_mrr_in_currency,
    monthly.valid_from::date as counts_from_on,
    coalesce(renewal_gaps.gap_end, monthly.valid_to)::date as counts_until_on
from monthly
left join renewal_gaps
    on monthly.application = renewal_gaps.application
    and monthly.account_id = renewal_gaps.account_id
    and monthly.valid_to = renewal_gaps.gap_start
    and monthly.is_counted
    and monthly.monthly_amount > 0
