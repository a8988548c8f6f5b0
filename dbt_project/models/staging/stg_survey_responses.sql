-- Grain: response_id. Written by northstar.build.generate from the source contract.
select
    response_id,
    survey,
    account_id,
    ticket_id,
    application,
    left(question, 200) as question,
    score,
    sent_at,
    case when responded_at < {{ as_of() }} and responded_at >= sent_at then responded_at end as responded_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'survey_responses') }}
where sent_at < {{ as_of() }}
