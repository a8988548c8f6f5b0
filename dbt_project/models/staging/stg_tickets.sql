-- Grain: ticket_id. Written by northstar.build.generate from the source contract.
select
    ticket_id,
    account_id,
    application,
    channel,
    category,
    priority,
    status,
    merged_into_ticket_id,
    requester_email,
    created_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'tickets') }}
where created_at < {{ as_of() }}
