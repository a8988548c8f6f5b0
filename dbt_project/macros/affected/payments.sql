{# What a changed row touches in the payment models (see incremental.sql). #}

{% macro affected__fct_payments() %}
    select charge_id from ({{ changed_rows('charges') }}) as changed
    union
    -- the attempts of one payment are numbered together
    {{ attempts_of("select coalesce(payment_id, charge_id) as payment_id from (" ~ changed_rows('charges') ~ ") as changed", source('staging', 'charges')) }}
    union
    select charge_id from ({{ changed_rows('refunds') }}) as changed
    union
    select charges.charge_id
    from {{ source('staging', 'charges') }} as charges
    inner join ({{ changed_rows('fx_rates') }}) as changed
        on changed.currency = charges.currency and charges.created_at >= changed.rate_date
{% endmacro %}

{% macro affected__fct_refunds() %}
    select refund_id from ({{ changed_rows('refunds') }}) as changed
    union
    select refunds.refund_id
    from {{ source('staging', 'refunds') }} as refunds
    inner join ({{ changed_rows('charges') }}) as changed on changed.charge_id = refunds.charge_id
    union
    select refunds.refund_id
    from {{ source('staging', 'refunds') }} as refunds
    inner join ({{ changed_rows('fx_rates') }}) as changed
        on changed.currency = refunds.currency and refunds.created_at >= changed.rate_date
{% endmacro %}

{% macro affected__metrics_payments() %}
    {{ affected_periods(facts=['fct_payments', 'fct_refunds'], series=['series_payments']) }}
{% endmacro %}

{# The charges that are attempts of some payments, each way through an index: a payment without an id of its own has its first charge's. #}
{% macro attempts_of(payments, charges) -%}
    select charge_id from {{ charges }} where payment_id in ({{ payments }})
    union
    select charge_id from {{ charges }} where charge_id in ({{ payments }}) and payment_id is null
{%- endmacro %}
