-- Grain: captured_on, application, measure. Written by northstar.build.generate from the source contract.
select
    captured_on,
    application,
    measure,
    value,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'community_snapshots') }}
where captured_on < {{ as_of() }}
