-- Grain: refund_id. Refunds, in the application and country of their charges.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='refund_id', affected_by=['refund_id'],
    scope_of={
        'stg_charges': {'through': 'stg_refunds', 'on': 'charge_id'},
        'stg_fx_rates': rated_rows('stg_refunds', 'related.created_at'),
    },
    touches=['created_at'], meta={'lookups': [['account_id']]}, indexes=[{'columns': ['refund_id'], 'unique': true}]
) }}

with refunds as (
    select * from {{ ref('stg_refunds') }}
    where {{ only_affected('refund_id') }}
),

charges as (
    select * from {{ ref('stg_charges') }}
),

currencies as (
    select * from {{ ref('currencies') }}
),

rates as (
    select * from {{ ref('fx_daily') }}
),

earlier_rates as (
    select * from {{ ref('fx_daily') }}
),

first_rates as (
    select
        currency,
        min(rate_on) as rate_on
    from {{ ref('fx_daily') }}
    group by currency
)

select
    refunds.refund_id,
    refunds.charge_id,
    charges.account_id,
    coalesce(charges.application, refunds.application) as application,
    charges.country,
    charges.legal_entity,
    refunds.reason,
    refunds.status,
    refunds.created_at,
    trim_scale(refunds.amount) as amount_minor,
    refunds.currency,
    {{ major_units('refunds.amount', 'currencies.exponent') }} * {{ reporting_rate('refunds.currency', 'rates.rate') }}
        as amount_reporting,
    {{ is_intercompany('charges.account_id') }} as is_intercompany,
    {{ major_units('refunds.amount', 'currencies.exponent') }} * {{ reporting_rate('refunds.currency', 'earlier_rates.rate') }}
        as amount_at_earlier_rate
from refunds
left join charges on refunds.charge_id = charges.charge_id
left join currencies on refunds.currency = currencies.currency
left join rates on refunds.currency = rates.currency and refunds.created_at::date = rates.rate_on
left join first_rates on refunds.currency = first_rates.currency
left join earlier_rates
    on refunds.currency = earlier_rates.currency
    and greatest((refunds.created_at::date - interval '12 months')::date, first_rates.rate_on) = earlier_rates.rate_on
