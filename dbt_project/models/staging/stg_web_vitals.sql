-- Grain: vital_id. Written by northstar.build.generate from the source contract.
select
    vital_id,
    application,
    left(page, 200) as page,
    device,
    page_load_ms,
    lcp_ms,
    tti_ms,
    lighthouse_score,
    accessibility_score,
    occurred_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'web_vitals') }}
where occurred_at < {{ as_of() }}
