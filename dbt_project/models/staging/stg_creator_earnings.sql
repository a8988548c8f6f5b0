-- Grain: application, creator_id, earned_on. Written by northstar.build.generate from the source contract.
select
    creator_id,
    application,
    earned_on,
    amount,
    currency,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'creator_earnings') }}
where earned_on < {{ as_of() }}
