-- Grain: conversation_id. Written by northstar.build.generate from the source contract.
select
    conversation_id,
    account_id,
    creator_id,
    application,
    channel,
    started_at,
    case when ended_at < {{ as_of() }} and ended_at >= started_at then ended_at end as ended_at,
    ended_naturally,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'conversations') }}
where started_at < {{ as_of() }}
