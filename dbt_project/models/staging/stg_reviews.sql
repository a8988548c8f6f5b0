-- Grain: review_id. Written by northstar.build.generate from the source contract.
select
    review_id,
    booking_id,
    reviewer_id,
    application,
    rating,
    created_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'reviews') }}
where created_at < {{ as_of() }}
