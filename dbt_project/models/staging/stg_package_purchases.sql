-- Grain: package_purchase_id. Written by northstar.build.generate from the source contract.
select
    package_purchase_id,
    account_id,
    application,
    sessions_total,
    amount,
    currency,
    purchased_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'package_purchases') }}
where purchased_at < {{ as_of() }}
