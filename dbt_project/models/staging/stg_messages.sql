-- Grain: message_id. Written by northstar.build.generate from the source contract.
select
    message_id,
    conversation_id,
    booking_id,
    session_id,
    sender_type,
    application,
    channel,
    sent_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'messages') }}
where sent_at < {{ as_of() }}
