-- Grain: account_id. Written by northstar.build.generate from the source contract.
select
    account_id,
    account_type,
    application,
    email,
    country,
    legal_entity,
    acquisition_channel,
    referred_by_account_id,
    telemetry_opt_in,
    created_at,
    case when deleted_at < {{ as_of() }} and deleted_at >= created_at then deleted_at end as deleted_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'accounts') }}
where created_at < {{ as_of() }}
