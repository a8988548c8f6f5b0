-- Grain: application, service, changed_at. Written by northstar.build.generate from the source contract.
select
    service,
    application,
    changed_at,
    is_up,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'service_states') }}
where changed_at < {{ as_of() }}
