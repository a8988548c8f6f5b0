-- Grain: content_item_id. Written by northstar.build.generate from the source contract.
select
    content_item_id,
    creator_id,
    application,
    kind,
    created_at,
    case when archived_at < {{ as_of() }} and archived_at >= created_at then archived_at end as archived_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'content_items') }}
where created_at < {{ as_of() }}
