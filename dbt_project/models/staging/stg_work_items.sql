-- Grain: work_item_id. Written by northstar.build.generate from the source contract.
select
    work_item_id,
    application,
    kind,
    priority,
    story_points,
    sprint,
    sprint_ends_on,
    created_at,
    due_at,
    case when completed_at < {{ as_of() }} and completed_at >= created_at then completed_at end as completed_at,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'work_items') }}
where created_at < {{ as_of() }}
