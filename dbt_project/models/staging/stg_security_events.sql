-- Grain: security_event_id. Written by northstar.build.generate from the source contract.
select
    security_event_id,
    application,
    kind,
    severity,
    occurred_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'security_events') }}
where occurred_at < {{ as_of() }}
