-- Grain: spend_date, application, channel, campaign. Written by northstar.build.generate from the source contract.
select
    spend_date,
    application,
    channel,
    campaign,
    amount,
    currency,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'marketing_spend') }}
where spend_date < {{ as_of() }}
