-- Grain: creator_id, application, month. What creators earned, in the reporting currency at each day's rate; by the creator's
-- own application where the account is known.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['creator_id', 'application', 'month'],
    affected_by=['creator_id'],
    scope_of={'accounts': {'creator_id': 'account_id'}, 'stg_fx_rates': rated_rows('stg_creator_earnings', 'related.earned_on')},
    touches=['month'], indexes=[{'columns': ['creator_id']}]
) }}

with earnings as (
    select * from {{ ref('stg_creator_earnings') }}
    where {{ only_affected('creator_id') }}
),

accounts as (
    select * from {{ ref('accounts') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

rates as (
    select * from {{ ref('fx_daily') }}
)

select
    earnings.creator_id,
    coalesce(accounts.application, earnings.application) as application,
    {{ start_of('month', 'earnings.earned_on::timestamptz') }} as month,
    sum({{ major_units('earnings.amount', 'currencies.exponent') }} * {{ reporting_rate('earnings.currency', 'rates.rate') }})
        as amount_reporting
from earnings
left join accounts on earnings.creator_id = accounts.account_id
left join currencies on earnings.currency = currencies.currency
left join rates on earnings.currency = rates.currency and earnings.earned_on = rates.rate_on
group by 1, 2, 3
