-- Grain: event_id. Written by northstar.build.generate from the source contract.
select
    event_id,
    event_name,
    occurred_at,
    received_at,
    account_id,
    anonymous_id,
    session_id,
    application,
    channel,
    country,
    consent,
    properties,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'events') }}
where occurred_at < {{ as_of() }}
