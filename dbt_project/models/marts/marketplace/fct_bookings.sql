-- Grain: booking_id. Marketplace bookings with their price in the reporting currency (at the rate of the day of request), the
-- commission, and their messages and first review.
{{ config(
    materialized='incremental', unique_key='booking_id', affected_by=['booking_id'],
    scope_of={'stg_fx_rates': rated_rows('stg_bookings', 'related.requested_at')},
    touches=['requested_at', 'confirmed_at', 'completed_at', 'cancelled_at'],
    meta={'lookups': [['student_id'], ['tutor_id']]},
    indexes=[{'columns': ['booking_id'], 'unique': true}, {'columns': ['requested_at']}]
) }}

with bookings as (
    select * from {{ ref('stg_bookings') }}
    where {{ only_affected('booking_id') }}
),

spoken as (
    select
        booking_id,
        count(*) as messages
    from {{ ref('stg_messages') }}
    where booking_id is not null and {{ only_affected('booking_id') }}
    group by booking_id
),

reviewed as (
    select
        booking_id,
        min(created_at) as first_reviewed_at
    from {{ ref('stg_reviews') }}
    where {{ only_affected('booking_id') }}
    group by booking_id
),

currencies as (
    select * from {{ ref('currencies') }}
),

rates as (
    select * from {{ ref('fx_daily') }}
)

select
    bookings.booking_id,
    bookings.application,
    bookings.student_id,
    bookings.tutor_id,
    bookings.country,
    bookings.package_purchase_id,
    bookings.payment_state,
    bookings.requested_at,
    bookings.confirmed_at,
    bookings.completed_at,
    bookings.cancelled_at,
    reviewed.first_reviewed_at,
    coalesce(spoken.messages, 0) as messages,
    trim_scale(bookings.price_amount) as price_minor,
    bookings.currency,
    bookings.commission_rate,
    {{ major_units('bookings.price_amount', 'currencies.exponent') }} * {{ reporting_rate('bookings.currency', 'rates.rate') }}
        as price_reporting,
    {{ major_units('bookings.price_amount', 'currencies.exponent') }} * {{ reporting_rate('bookings.currency', 'rates.rate') }}
    * bookings.commission_rate as commission_reporting
from bookings
left join spoken on bookings.booking_id = spoken.booking_id
left join reviewed on bookings.booking_id = reviewed.booking_id
left join currencies on bookings.currency = currencies.currency
left join rates on bookings.currency = rates.currency and bookings.requested_at::date = rates.rate_on
