-- Grain: grain, period_start, application, segment, segment_value. Accounts created in the period, and how many of them reached each milestone.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
{% set segments = ['country', 'account_type', 'acquisition_channel'] %}
{% set measures = {
    'registrations': 'count(*)',
    'creators': "count(*) filter (where r.account_type = 'creator')",
    'known_channel': 'count(r.acquisition_channel)',
    'organic': "count(*) filter (where r.acquisition_channel = 'organic')",
    'paid_within_30_days': 'count(*) filter (where r.has_paid_within_30_days)',
    'activated_within_7_days': 'count(*) filter (where r.has_activated_within_7_days)',
    'active_on_day_1': 'count(*) filter (where r.was_active_on_day_1)',
    'active_on_day_7': 'count(*) filter (where r.was_active_on_day_7)',
    'active_on_day_30': 'count(*) filter (where r.was_active_on_day_30)',
    'active_on_day_90': 'count(*) filter (where r.was_active_on_day_90)',
    'students': "count(*) filter (where r.account_type = 'student')",
    'students_after_30_days': "count(*) filter (where r.account_type = 'student' and r.was_active_after_30_days)",
    'tutors': "count(*) filter (where r.account_type = 'tutor')",
    'tutors_after_30_days': "count(*) filter (where r.account_type = 'tutor' and r.was_active_after_30_days)",
} %}

with accounts as (
    select * from {{ ref('dim_accounts') }}
),

referred as (
    select
        referrer_application as application,
        referred_by_account_id,
        created_at as happened_at
    from {{ ref('dim_accounts') }}
    where referrer_application is not null
),

series as (
    select * from {{ ref('series_accounts') }}
),

measured as (
    {{ cube('accounts', measures, segments, grains, 'created_at') }}
),

referring as (
    {{ cube('referred', {'referrers': 'count(distinct r.referred_by_account_id)'}, [], grains) }}
),

complete as (
    {{ in_series({'measured': measures, 'referring': ['referrers']}, 'series', grains, with_first=false) }}
)

select
    complete.grain,
    complete.period_start,
    complete.period_end,
    complete.application,
    complete.segment,
    complete.segment_value,
    {% for name in measures %}
    coalesce(complete.{{ name }}, 0) as {{ name }},
    {% endfor %}
    case when complete.segment = '' then coalesce(complete.referrers, 0) end as referrers
from complete
