-- Grain: charge_id. Each payment attempt, with its number among the attempts of its payment and the amount that was refunded.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='charge_id', affected_by=['charge_id'],
    scope_of={'stg_fx_rates': rated_rows('stg_charges', 'related.created_at')},
    touches=['created_at'], meta={'lookups': [['account_id']]},
    ordered_by=['created_at'], indexes=[{'columns': ['charge_id'], 'unique': true}, {'columns': ['created_at']}]
) }}

with charges as (
    select * from {{ ref('stg_charges') }}
    where {{ only_affected('charge_id') }}
),

siblings as (
    select
        charge_id,
        coalesce(payment_id, charge_id) as payment_id,
        status,
        row_number() over attempts as attempt_number,
        first_value(created_at) over attempts as first_attempt_at,
        first_value(status) over attempts as first_attempt_status,
        bool_or(status = 'succeeded') over (partition by coalesce(payment_id, charge_id)) as is_payment_collected
    from {{ ref('stg_charges') }}
    {% if is_incremental() %}
    where charge_id in ({{ attempts_of('select coalesce(payment_id, charge_id) from charges', ref('stg_charges')) }})
    {% endif %}
    window attempts as (partition by coalesce(payment_id, charge_id) order by created_at, charge_id)
),

refunded as (
    select
        charge_id,
        sum(amount) filter (where status = 'succeeded') as refunded_amount
    from {{ ref('stg_refunds') }}
    where {{ only_affected('charge_id') }}
    group by charge_id
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
    charges.charge_id,
    siblings.payment_id,
    charges.account_id,
    charges.application,
    charges.subscription_id,
    charges.booking_id,
    charges.package_purchase_id,
    charges.status,
    charges.failure_code,
    charges.country,
    charges.legal_entity,
    charges.created_at,
    siblings.attempt_number,
    siblings.first_attempt_at,
    siblings.first_attempt_status,
    siblings.is_payment_collected,
    trim_scale(charges.amount) as amount_minor,
    charges.currency,
    {{ reporting_rate('charges.currency', 'rates.rate') }} as rate_to_reporting,
    {{ major_units('charges.amount', 'currencies.exponent') }} * {{ reporting_rate('charges.currency', 'rates.rate') }}
        as amount_reporting,
    trim_scale(coalesce(refunded.refunded_amount, 0)) as refunded_minor,
    {{ is_intercompany('charges.account_id') }} as is_intercompany,
    {{ major_units('charges.amount', 'currencies.exponent') }} * {{ reporting_rate('charges.currency', 'earlier_rates.rate') }}
        as amount_at_earlier_rate
from charges
inner join siblings on charges.charge_id = siblings.charge_id
left join refunded on charges.charge_id = refunded.charge_id
left join currencies on charges.currency = currencies.currency
left join rates on charges.currency = rates.currency and charges.created_at::date = rates.rate_on
left join first_rates on charges.currency = first_rates.currency
left join earlier_rates
    on charges.currency = earlier_rates.currency
    and greatest((charges.created_at::date - interval '12 months')::date, first_rates.rate_on) = earlier_rates.rate_on
