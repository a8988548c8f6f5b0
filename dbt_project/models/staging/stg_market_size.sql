-- Grain: as_of, application, country. Written by northstar.build.generate from the source contract.
select
    as_of,
    application,
    country,
    addressable_accounts,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'market_size') }}
where as_of < {{ as_of() }}
