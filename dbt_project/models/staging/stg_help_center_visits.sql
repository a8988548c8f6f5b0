-- Grain: visit_id. Written by northstar.build.generate from the source contract.
select
    visit_id,
    application,
    occurred_at,
    led_to_ticket,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'help_center_visits') }}
where occurred_at < {{ as_of() }}
