-- Grain: rate_date, currency. Written by northstar.build.generate from the source contract.
select
    rate_date,
    currency,
    rate_to_reporting,
    application,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'fx_rates') }}
where rate_date < {{ as_of() }}
