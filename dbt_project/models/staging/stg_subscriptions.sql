-- Grain: subscription_item_id, valid_from. Written by northstar.build.generate from the source contract.
select
    subscription_item_id,
    subscription_id,
    account_id,
    application,
    plan_id,
    plan_tier,
    billing_interval,
    interval_count,
    quantity,
    unit_amount,
    currency,
    discount_percent,
    discount_amount,
    is_metered,
    status,
    left(cancel_reason, 200) as cancel_reason,
    valid_from,
    case when valid_to < {{ as_of() }} then valid_to end as valid_to,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'subscriptions') }}
where valid_from < {{ as_of() }} and not _is_overlapping and (valid_to is null or valid_to > valid_from)
