-- Grain: subscription_item_id, valid_from. Each interval of a subscription item with its MRR in its own currency.
{% set days = past_due_days() %}
{% set until = 'counted_to' if days else 'valid_to' %}
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['subscription_item_id', 'valid_from'],
    affected_by=['account_id'], touches=['valid_from'], meta={'lookups': [['account_id']]},
    ordered_by=['account_id'], indexes=[{'columns': ['subscription_item_id', 'valid_from'], 'unique': true}, {'columns': ['account_id']}]
) }}

with subscriptions as (
    select * from {{ ref('stg_subscriptions') }}
    where {{ only_affected('account_id') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

{% if days %}
-- an item is past due since the first of its rows in this status that follow each other
past_due_beginnings as (
    select
        *,
        status = 'past_due' and not coalesce(lag(status) over by_item = 'past_due' and lag(valid_to) over by_item = valid_from, false)
            as is_beginning
    from subscriptions
    window by_item as (partition by subscription_item_id order by valid_from)
),

past_due_since as (
    select
        *,
        max(valid_from) filter (where is_beginning) over (partition by subscription_item_id order by valid_from) as since
    from past_due_beginnings
),

{% endif %}
priced as (
    select
        subscriptions.*,
        {{ is_intercompany('subscriptions.account_id') }} as is_intercompany,
        -- metered items are billed by use: they carry no MRR
        subscriptions.status in {{ counted_statuses() }} and not coalesce(subscriptions.is_metered, false)
        {% if days %}
            and (subscriptions.status != 'past_due' or subscriptions.valid_from < subscriptions.since + interval '{{ days }} days')
        {% endif %} as is_counted,
        {% if days %}
        case
            when subscriptions.status = 'past_due' and subscriptions.since + interval '{{ days }} days' < {{ as_of() }}
                then least(subscriptions.valid_to, subscriptions.since + interval '{{ days }} days')
            else subscriptions.valid_to
        end as counted_to,
        {% endif %}
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
    from {{ 'past_due_since as ' if days }}subscriptions
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
        max(coalesce({{ until }}, 'infinity')) over (
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
    monthly.is_counted and not monthly.is_intercompany as is_counted,
    case when monthly.is_counted and not monthly.is_intercompany then monthly.monthly_amount else 0 end as mrr_in_currency,
    case when monthly.is_counted and not monthly.is_intercompany then monthly.monthly_list_amount else 0 end as list_mrr_in_currency,
    monthly.valid_from::date as counts_from_on,
    coalesce(renewal_gaps.gap_end, monthly.{{ until }})::date as counts_until_on,
    monthly.is_intercompany,
    case when monthly.is_counted and monthly.is_intercompany then monthly.monthly_amount else 0 end as intercompany_mrr_in_currency
from monthly
left join renewal_gaps
    on monthly.application = renewal_gaps.application
    and monthly.account_id = renewal_gaps.account_id
    and monthly.{{ until }} = renewal_gaps.gap_start
    and monthly.is_counted
    and monthly.monthly_amount > 0
