-- Grain: application, spend_on, channel, campaign. Acquisition spend in the reporting currency, at the day's rate.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'spend_on', 'channel', 'campaign'], touches=['spend_on']
) }}

with spend as (
    select * from {{ ref('stg_marketing_spend') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

rates as (
    select * from {{ ref('fx_daily') }}
)

select
    spend.application,
    spend.spend_date as spend_on,
    spend.channel,
    coalesce(spend.campaign, '') as campaign,
    {{ major_units('spend.amount', 'currencies.exponent') }} * {{ reporting_rate('spend.currency', 'rates.rate') }}
        as amount_reporting
from spend
left join currencies on spend.currency = currencies.currency
left join rates on spend.currency = rates.currency and spend.spend_date = rates.rate_on
