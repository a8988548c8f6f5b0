-- Grain: call_id. Written by northstar.build.generate from the source contract.
select
    call_id,
    application,
    integration,
    kind,
    succeeded,
    occurred_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'integration_calls') }}
where occurred_at < {{ as_of() }}
