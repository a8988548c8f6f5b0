-- Grain: metric_id, grain, period_start, application, segment, segment_value. Active accounts, stickiness, adoption, retention.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    lags=['1 month'], open_changes=true,
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set begun_days = days_begun('period_start', 'least(period_end, ' ~ as_of() ~ ')') %}

with active as (
    select * from {{ ref('active_by_period') }}
),

standing as (
    select * from {{ ref('accounts_by_period') }}
    where segment = ''
),

retained as (
    select * from {{ ref('retained_users_by_period') }}
),

earlier as (
    select
        grain,
        period_start + interval '1 month' as period_start,
        application,
        segment,
        segment_value,
        active_accounts as active_before
    from active
    where grain = 'month'
),

series as (
    select * from {{ ref('series_activity') }}
),

retained_series as (
    select * from {{ ref('series_retained_users') }}
),

-- a feature's adoption is a share of all who were active: it is 0 where nobody used it
adopting as (
    select
        active.grain,
        active.period_start,
        active.application,
        series.segment,
        series.segment_value,
        active.active_accounts as all_active_accounts
    from active
    inner join series on active.application = series.application and series.segment in ('', 'feature')
    where active.segment = ''
),

placed as (
    {{ in_series({
        'active': ['active_accounts', 'active_account_days', 'feature_users'], 'standing': ['registered_accounts'],
        'earlier': ['active_before'], 'adopting': ['all_active_accounts'],
    }, 'series', ['day', 'week', 'month']) }}
),

wide as (
    select
        *,
        -- the days of the period that have begun
        {{ begun_days }} as days
    from placed
),

retained_placed as (
    {{ in_series({'retained': ['retained', 'active_before']}, 'retained_series', ['month']) }}
)

{{ metric_rows('wide', {
    'dau': ['active_accounts', none],
    'wau': ['active_accounts', none],
    'mau': ['active_accounts', none],
    'dau_rate': ['active_accounts', 'registered_accounts'],
    'mau_rate': ['active_accounts', 'registered_accounts'],
    'mau_growth_rate': ['coalesce(active_accounts, 0) - coalesce(active_before, 0)', 'active_before', {
        'explained': {'active_before': ['active_accounts', 'month_before']},
    }],
    'stickiness': ['active_account_days / days', 'active_accounts', {'explained': {'days': begun_days}}],
    'feature_adoption_rate': ['feature_users', 'all_active_accounts', {
        'explained': {'all_active_accounts': ['active_accounts', 'whole']},
    }],
}) }}
union all
select * from ({{ metric_rows('retained_placed', {
    'user_retention_rate': ['retained', 'active_before'],
    'user_churn_rate': ['active_before - retained', 'active_before'],
}) }}) as user_rows
