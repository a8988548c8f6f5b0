-- Grain: application_id. Written by northstar.build.generate from the source contract.
select
    application_id,
    account_id,
    application,
    applied_at,
    case when approved_at < {{ as_of() }} and approved_at >= applied_at then approved_at end as approved_at,
    case when rejected_at < {{ as_of() }} and rejected_at >= applied_at then rejected_at end as rejected_at,
    case when profile_completed_at < {{ as_of() }} and profile_completed_at >= applied_at then profile_completed_at end as profile_completed_at,
    case when availability_set_at < {{ as_of() }} and availability_set_at >= applied_at then availability_set_at end as availability_set_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'tutor_applications') }}
where applied_at < {{ as_of() }}
