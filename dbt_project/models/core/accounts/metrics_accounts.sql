-- Grain: metric_id, grain, period_start, application, segment, segment_value. Registrations, activation and cohort retention.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    lags=['1 month'],
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}

{% set registered = [
    'registrations', 'creators', 'known_channel', 'organic', 'referrers', 'paid_within_30_days', 'activated_within_7_days',
    'active_on_day_1', 'active_on_day_7', 'active_on_day_30', 'active_on_day_90', 'students', 'students_after_30_days',
    'tutors', 'tutors_after_30_days',
] %}

with registrations as (
    select * from {{ ref('registrations_by_period') }}
),

standing as (
    select * from {{ ref('accounts_by_period') }}
),

-- the month before, where this one compares itself with it
earlier as (
    select
        grain,
        period_start + interval '1 month' as period_start,
        application,
        segment,
        segment_value,
        creators as creators_before
    from registrations
    where grain = 'month'
),

series as (
    select * from {{ ref('series_accounts') }}
),

placed as (
    {{ in_series({
        'registrations': registered, 'standing': ['registered_accounts', 'opening_registered_accounts', 'opted_in_accounts'],
        'earlier': ['creators_before'],
    }, 'series', ['day', 'week', 'month', 'quarter', 'year']) }}
)

{{ metric_rows('placed', {
    'new_registrations': ['registrations', none],
    'registered_accounts': ['registered_accounts', none],
    'registration_growth_rate': ['registered_accounts - opening_registered_accounts', 'opening_registered_accounts'],
    'new_creators': ['creators', none],
    'creator_acquisition_growth_rate': ['coalesce(creators, 0) - coalesce(creators_before, 0)', 'creators_before', {
        'explained': {'creators_before': ['creators', 'month_before']},
    }],
    'organic_share': ['organic', 'known_channel'],
    'referral_rate': ['referrers', 'registered_accounts'],
    'telemetry_opt_in_rate': ['opted_in_accounts', 'registered_accounts'],
    'signup_to_paid_conversion_rate': ['paid_within_30_days', 'registrations'],
    'activation_rate': ['activated_within_7_days', 'registrations'],
    'retention_d1': ['active_on_day_1', 'registrations'],
    'retention_d7': ['active_on_day_7', 'registrations'],
    'retention_d30': ['active_on_day_30', 'registrations'],
    'retention_d90': ['active_on_day_90', 'registrations'],
    'student_retention_30d': ['students_after_30_days', 'students'],
    'tutor_retention_30d': ['tutors_after_30_days', 'tutors'],
}) }}
