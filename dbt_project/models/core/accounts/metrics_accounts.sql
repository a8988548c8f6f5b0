-- Grain: metric_id, grain, period_start, application, segment, segment_value. Registrations, activation and cohort retention.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
) }}

with registrations as (
    select * from {{ ref('registrations_by_period') }}
),

standing as (
    select * from {{ ref('accounts_by_period') }}
),

wide as (
    select
        registrations.*,
        standing.registered_accounts,
        standing.opening_registered_accounts,
        standing.opted_in_accounts,
        earlier.creators as creators_before
    from registrations
    left join standing
        on registrations.grain = standing.grain
        and registrations.period_start = standing.period_start
        and registrations.application = standing.application
        and registrations.segment = standing.segment
        and registrations.segment_value = standing.segment_value
    left join registrations as earlier
        on registrations.grain = 'month'
        and earlier.grain = 'month'
        and registrations.period_start - interval '1 month' = earlier.period_start
        and registrations.application = earlier.application
        and registrations.segment = earlier.segment
        and registrations.segment_value = earlier.segment_value
    where {{ only_affected('registrations.grain, registrations.period_start') }}
)

{{ metric_rows('wide', {
    'new_registrations': ['registrations', none],
    'registered_accounts': ['registered_accounts', none],
    'registration_growth_rate': ['registered_accounts - opening_registered_accounts', 'opening_registered_accounts'],
    'new_creators': ['creators', none],
    'creator_acquisition_growth_rate': ['creators - coalesce(creators_before, 0)', 'creators_before', {
        'explained': {'creators_before': ['creators', 'month_before']},
    }],
    'organic_share': ['organic', 'known_channel'],
    'referral_rate': ['referrers', 'registered_accounts'],
    'telemetry_opt_in_rate': ['opted_in_accounts', 'registered_accounts'],
    'signup_to_paid_conversion_rate': ['paid_within_30_days', 'registrations', {'window_days': 30}],
    'activation_rate': ['activated_within_7_days', 'registrations', {'window_days': 7}],
    'retention_d1': ['active_on_day_1', 'registrations', {'window_days': 1}],
    'retention_d7': ['active_on_day_7', 'registrations', {'window_days': 7}],
    'retention_d30': ['active_on_day_30', 'registrations', {'window_days': 30}],
    'retention_d90': ['active_on_day_90', 'registrations', {'window_days': 90}],
    'student_retention_30d': ['students_after_30_days', 'students', {'window_days': 30}],
    'tutor_retention_30d': ['tutors_after_30_days', 'tutors', {'window_days': 30}],
}) }}
