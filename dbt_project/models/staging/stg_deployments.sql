-- Grain: deployment_id. Written by northstar.build.generate from the source contract.
select
    deployment_id,
    application,
    service,
    commit_sha,
    started_at,
    status,
    case when recovered_at < {{ as_of() }} and recovered_at >= started_at then recovered_at end as recovered_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'deployments') }}
where started_at < {{ as_of() }}
