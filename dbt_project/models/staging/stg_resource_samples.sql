-- Grain: application, resource, sampled_at. Written by northstar.build.generate from the source contract.
select
    resource,
    application,
    sampled_at,
    cpu_percent,
    memory_percent,
    concurrent_users,
    network_latency_ms,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'resource_samples') }}
where sampled_at < {{ as_of() }}
