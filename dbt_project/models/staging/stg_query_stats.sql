-- Grain: application, query_id, window_start. Written by northstar.build.generate from the source contract.
select
    query_id,
    application,
    window_start,
    calls,
    total_ms,
    slow_calls,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'query_stats') }}
where window_start < {{ as_of() }}
