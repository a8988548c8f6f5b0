-- Grain: incident_id. Written by northstar.build.generate from the source contract.
select
    incident_id,
    application,
    severity,
    started_at,
    case when acknowledged_at < {{ as_of() }} and acknowledged_at >= started_at then acknowledged_at end as acknowledged_at,
    case when resolved_at < {{ as_of() }} and resolved_at >= started_at then resolved_at end as resolved_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'incidents') }}
where started_at < {{ as_of() }}
