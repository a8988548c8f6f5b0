-- Grain: charge_id or refund_id. Charges, refunds and first attempts on one time line, for the payment metrics.
{{ config(materialized='view') }}

select
    charge_id,
    null as refund_id,
    application,
    country,
    legal_entity,
    failure_code,
    created_at as happened_at,
    (status = 'succeeded')::int as succeeded,
    (status = 'failed')::int as failed,
    (attempt_number > 1)::int as retries,
    case when status = 'succeeded' then amount_reporting else 0 end as charged,
    0::numeric as refunded,
    case when status = 'succeeded' then amount_at_earlier_rate else 0 end as collected_at_earlier_rate,
    (attempt_number = 1 and status = 'failed')::int as failed_first,
    (attempt_number = 1 and status = 'failed' and is_payment_collected)::int as recovered
from {{ ref('fct_payments') }}
where not is_intercompany
union all
select
    null as charge_id,
    refund_id,
    application,
    country,
    legal_entity,
    null as failure_code,
    created_at as happened_at,
    0 as succeeded,
    0 as failed,
    0 as retries,
    0 as charged,
    amount_reporting as refunded,
    -amount_at_earlier_rate as collected_at_earlier_rate,
    0 as failed_first,
    0 as recovered
from {{ ref('fct_refunds') }}
where status = 'succeeded' and not is_intercompany
