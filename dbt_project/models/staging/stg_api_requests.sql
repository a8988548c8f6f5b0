-- Grain: request_id. Written by northstar.build.generate from the source contract.
select
    request_id,
    application,
    service,
    left(route, 200) as route,
    status_code,
    duration_ms,
    is_critical,
    occurred_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'api_requests') }}
where occurred_at < {{ as_of() }}
