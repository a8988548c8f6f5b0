-- Grain: grain, period_start, application, segment, segment_value. Accounts active in the month before, and those of them
-- active in this month too; by the account's own application (docs/semantics.md, Activity).
{{ config(
    materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    lags=['1 month'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}

with months as (
    select
        account_id,
        application,
        account_type,
        month::timestamptz as month
    from {{ ref('active_months') }}
    where {{ at_or_after_affected('month', before='1 month', grains=['month']) }}
),

pairs as (
    select
        previous_months.application,
        previous_months.account_type,
        previous_months.account_id,
        previous_months.month + interval '1 month' as happened_at,
        next_months.account_id is not null as was_retained
    from months as previous_months
    left join months as next_months
        on previous_months.account_id = next_months.account_id
        and previous_months.application = next_months.application
        and next_months.month = previous_months.month + interval '1 month'
),

series as (
    select * from {{ ref('series_retained_users') }}
),

measured as (
    {{ cube('pairs', {
        'active_before': 'count(distinct r.account_id)',
        'retained': 'count(distinct r.account_id) filter (where r.was_retained)',
    }, ['account_type'], ['month']) }}
),

complete as (
    {{ in_series({'measured': ['active_before', 'retained']}, 'series', ['month'], with_first=false) }}
)

select
    grain,
    period_start,
    period_end,
    application,
    segment,
    segment_value,
    coalesce(active_before, 0) as active_before,
    coalesce(retained, 0) as retained
from complete
