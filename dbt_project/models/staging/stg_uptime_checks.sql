-- Grain: application, service, checked_at. Written by northstar.build.generate from the source contract.
select
    service,
    application,
    checked_at,
    is_up,
    is_third_party,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'uptime_checks') }}
where checked_at < {{ as_of() }}
