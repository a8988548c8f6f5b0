-- Grain: ai_response_id. Written by northstar.build.generate from the source contract.
select
    ai_response_id,
    conversation_id,
    application,
    user_satisfied,
    is_relevant,
    is_accurate,
    is_helpful,
    confidence,
    created_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'ai_responses') }}
where created_at < {{ as_of() }}
