-- Grain: error_id. Written by northstar.build.generate from the source contract.
select
    error_id,
    application,
    service,
    level,
    left(fingerprint, 200) as fingerprint,
    is_user_facing,
    occurred_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'error_events') }}
where occurred_at < {{ as_of() }}
