-- Grain: pull_request_id. Written by northstar.build.generate from the source contract.
select
    pull_request_id,
    application,
    author,
    author_is_external,
    opened_at,
    case when first_review_at < {{ as_of() }} and first_review_at >= opened_at then first_review_at end as first_review_at,
    review_cycles,
    case when merged_at < {{ as_of() }} and merged_at >= opened_at then merged_at end as merged_at,
    merge_commit_sha,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'pull_requests') }}
where opened_at < {{ as_of() }}
