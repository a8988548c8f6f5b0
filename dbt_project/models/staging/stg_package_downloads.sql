-- Grain: application, downloaded_on, package. Written by northstar.build.generate from the source contract.
select
    downloaded_on,
    application,
    package,
    downloads,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'package_downloads') }}
where downloaded_on < {{ as_of() }}
