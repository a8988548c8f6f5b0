-- Grain: metric_id, grain, period_start, application, segment, segment_value. Bookings and their revenue, tutors, reviews, packages.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
{% set series = ref('series_marketplace') %}

with bookings as (
    select
        *,
        null::text as legal_entity
    from {{ ref('fct_bookings') }}
),

requested as (
    select * from bookings
),

confirmed as (
    select * from bookings
    where confirmed_at is not null
),

completed as (
    select * from bookings
    where completed_at is not null
),

reviews as (
    select * from {{ ref('stg_reviews') }}
    where {{ at_or_after_affected('created_at', grains=['week', 'month']) }}
),

applicants as (
    select * from {{ ref('stg_tutor_applications') }}
    where {{ at_or_after_affected('applied_at', grains=['week', 'month']) }}
),

purchases as (
    select * from {{ ref('stg_package_purchases') }}
    where {{ at_or_after_affected('purchased_at', grains=['month']) }}
),

bought as (
    {{ cube('purchases', {'buyers': 'count(distinct r.account_id)'}, [], ['month'], 'purchased_at') }}
),

active as (
    select * from {{ ref('active_by_period') }}
    where segment = ''
),

purchase_series as (
    select * from {{ series }}
    where fact = 'purchases'
),

buying as (
    {{ in_series({'bought': ['buyers'], 'active': ['active_accounts']}, 'purchase_series', ['month']) }}
)

{{ metrics_of('requested', series, 'bookings', {
    'requests': 'count(*)',
    'confirmed': 'count(r.confirmed_at)',
    'messages': 'sum(r.messages)',
}, ['country'], grains, {
    'bookings': ['requests', none],
    'booking_conversion_rate': ['confirmed', 'requests'],
    'messages_per_booking': ['messages', 'requests'],
}, at='requested_at') }}
union all
{{ metrics_of('confirmed', series, 'bookings', {
    'confirmations': 'count(*)',
    'completed': 'count(r.completed_at)',
    'cancelled': 'count(r.cancelled_at)',
    'gmv': 'sum(case when r.cancelled_at is null then r.price_reporting else 0 end)',
    'commission': 'sum(case when r.cancelled_at is null then r.commission_reporting else 0 end)',
}, ['country'], grains, {
    'session_completion_rate': ['completed', 'confirmations'],
    'booking_cancellation_rate': ['cancelled', 'confirmations'],
    'gmv': ['gmv', none],
    'marketplace_net_revenue': ['commission', none],
}, at='confirmed_at') }}
union all
{{ metrics_of('completed', series, 'bookings', {
    'completions': 'count(*)',
    'tutors': 'count(distinct r.tutor_id)',
    'learners': 'count(distinct r.student_id)',
    'reviewed': 'count(r.first_reviewed_at)',
    'captured_price': "sum(r.price_reporting) filter (where r.payment_state = 'captured')",
    'captured': "count(*) filter (where r.payment_state = 'captured')",
}, [], ['week', 'month'], {
    'weekly_active_learners': ['learners', none],
    'weekly_active_tutors': ['tutors', none],
    'completed_sessions_per_tutor': ['completions', 'tutors'],
    'review_rate': ['reviewed', 'completions'],
    'average_session_value': ['captured_price', 'captured'],
}, at='completed_at') }}
union all
{{ metrics_of('reviews', series, 'reviews', {'rating': 'sum(r.rating)', 'reviews': 'count(*)'}, [], ['week', 'month'], {
    'average_rating': ['rating', 'reviews'],
}, at='created_at') }}
union all
{{ metrics_of('applicants', series, 'applicants', {
    'applications': 'count(*)',
    'approved': 'count(r.approved_at)',
}, [], ['week', 'month'], {
    'tutor_approval_rate': ['approved', 'applications'],
}, at='applied_at') }}
union all
select * from ({{ metric_rows('buying', {'package_purchase_rate': ['buyers', 'coalesce(active_accounts, 0)']}) }}) as buying_rows
