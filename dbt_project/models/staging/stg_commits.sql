-- Grain: application, commit_sha. Written by northstar.build.generate from the source contract.
select
    commit_sha,
    application,
    pull_request_id,
    author,
    committed_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'commits') }}
where committed_at < {{ as_of() }}
