-- Grain: ticket_event_id. Written by northstar.build.generate from the source contract.
select
    ticket_event_id,
    ticket_id,
    event_type,
    actor_type,
    occurred_at,
    application,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'ticket_events') }}
where occurred_at < {{ as_of() }}
