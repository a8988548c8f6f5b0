-- Grain: grain, period_start, application, segment, segment_value. Distinct active accounts, and the sum of their days' counts.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month'] %}

with activity as (
    select
        account_id,
        application,
        channel,
        account_type,
        activity_on::timestamptz as happened_at,
        activity_on
    from {{ ref('active_accounts') }}
    where {{ at_or_after_affected('activity_on', grains=grains) }}
),

features as (
    select
        feature_days.account_id,
        feature_days.application,
        feature_days.feature,
        feature_days.used_on::timestamptz as happened_at
    from {{ ref('feature_days') }} as feature_days
    left join {{ ref('accounts') }} as accounts on feature_days.account_id = accounts.account_id
    where {{ at_or_after_affected('feature_days.used_on', grains=grains) }}
        and (accounts.deleted_at is null or feature_days.first_at < accounts.deleted_at)
),

series as (
    select * from {{ ref('series_activity') }}
),

counted as (
    {{ cube('activity', {'active_accounts': 'count(distinct r.account_id)'}, ['channel', 'account_type'], grains) }}
),

daily as (
    {{ measured('activity', {'active_account_days': 'count(distinct (r.account_id, r.activity_on))'}, ['channel', 'account_type'], grains) }}
    select
        r.activity_on,
        {{ segment_columns(['channel', 'account_type']) }},
        count(distinct r.account_id) as active_accounts
    from activity as r
    group by {{ segment_sets(['channel', 'account_type'], 'r.activity_on') }}
),

summed as (
    select
        g.grain,
        g.period_start,
        daily.application,
        daily.segment,
        daily.segment_value,
        sum(daily.active_accounts) as active_account_days
    from daily
    cross join lateral {{ grain_starts('daily.activity_on::timestamptz', grains) }} as g (grain, period_start)
    where {{ only_affected('g.grain, g.period_start') }}
    group by 1, 2, 3, 4, 5
),

measured as (
    select
        counted.*,
        summed.active_account_days
    from counted
    inner join summed using (grain, period_start, application, segment, segment_value)
),

using_features as (
    {{ cube('features', {'feature_users': 'count(distinct r.account_id)'}, ['feature'], ['week', 'month']) }}
),

active as (
    {{ in_series({'measured': ['active_accounts', 'active_account_days'], 'using_features': ['feature_users']}, 'series', grains, with_first=false) }}
)

select
    active.grain,
    active.period_start,
    active.period_end,
    active.application,
    active.segment,
    active.segment_value,
    coalesce(active.active_accounts, 0) as active_accounts,
    coalesce(active.active_account_days, 0) as active_account_days,
    coalesce(active.feature_users, 0) as feature_users
from active
