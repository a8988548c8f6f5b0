-- Grain: charge_id. Written by northstar.build.generate from the source contract.
select
    charge_id,
    payment_id,
    account_id,
    application,
    subscription_id,
    booking_id,
    package_purchase_id,
    amount,
    currency,
    status,
    failure_code,
    country,
    legal_entity,
    created_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'charges') }}
where created_at < {{ as_of() }}
