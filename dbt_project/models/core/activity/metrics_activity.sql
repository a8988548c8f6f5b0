-- Grain: metric_id, grain, period_start, application, segment, segment_value. Active accounts, stickiness, adoption, retention.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
) }}
{% set begun_days = 'ceil(extract(epoch from least(period_end, ' ~ as_of() ~ ') - period_start) / 86400)' %}

with active as (
    select * from {{ ref('active_by_period') }}
),

standing as (
    select * from {{ ref('accounts_by_period') }}
    where segment = ''
),

retained as (
    select * from {{ ref('retained_users_by_period') }}
    where {{ only_affected('grain, period_start') }}
),

wide as (
    select
        active.*,
        case when active.segment = '' then coalesce(standing.registered_accounts, 0) end as registered_accounts,
        earlier.active_accounts as active_before,
        totals.active_accounts as all_active_accounts,
        -- the days of the period that have begun
        {{ begun_days | replace('period_', 'active.period_') }} as days
    from active
    left join standing
        on active.grain = standing.grain
        and active.period_start = standing.period_start
        and active.application = standing.application
        and active.segment = ''
    left join active as earlier
        on active.grain = 'month'
        and earlier.grain = 'month'
        and active.period_start - interval '1 month' = earlier.period_start
        and active.application = earlier.application
        and active.segment = earlier.segment
        and active.segment_value = earlier.segment_value
    left join active as totals
        on active.grain = totals.grain
        and active.period_start = totals.period_start
        and active.application = totals.application
        and totals.segment = ''
    where {{ only_affected('active.grain, active.period_start') }}
)

{{ metric_rows('wide', {
    'dau': ['active_accounts', none],
    'wau': ['active_accounts', none],
    'mau': ['active_accounts', none],
    'dau_rate': ['active_accounts', 'registered_accounts'],
    'mau_rate': ['active_accounts', 'registered_accounts'],
    'mau_growth_rate': ['active_accounts - coalesce(active_before, 0)', 'active_before', {
        'explained': {'active_before': ['active_accounts', 'month_before']},
    }],
    'stickiness': ['active_account_days / days', 'active_accounts', {'explained': {'days': begun_days}}],
    'feature_adoption_rate': ['feature_users', 'all_active_accounts', {
        'explained': {'all_active_accounts': ['active_accounts', 'whole']},
    }],
}) }}
union all
select * from ({{ metric_rows('retained', {
    'user_retention_rate': ['retained', 'active_before'],
    'user_churn_rate': ['active_before - retained', 'active_before'],
}) }}) as user_rows
