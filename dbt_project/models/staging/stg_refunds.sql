-- Grain: refund_id. Written by northstar.build.generate from the source contract.
select
    refund_id,
    charge_id,
    amount,
    currency,
    left(reason, 200) as reason,
    status,
    created_at,
    updated_at,
    application,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'refunds') }}
where created_at < {{ as_of() }}
