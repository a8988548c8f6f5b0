-- Grain: booking_id. Written by northstar.build.generate from the source contract.
select
    booking_id,
    student_id,
    tutor_id,
    application,
    country,
    package_purchase_id,
    price_amount,
    currency,
    commission_rate,
    requested_at,
    case when confirmed_at < {{ as_of() }} and confirmed_at >= requested_at then confirmed_at end as confirmed_at,
    case when completed_at < {{ as_of() }} and completed_at >= requested_at then completed_at end as completed_at,
    case when cancelled_at < {{ as_of() }} and cancelled_at >= requested_at then cancelled_at end as cancelled_at,
    payment_state,
    updated_at,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'bookings') }}
where requested_at < {{ as_of() }}
