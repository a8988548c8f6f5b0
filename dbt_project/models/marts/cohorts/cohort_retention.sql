-- Grain: cohort_kind, application, cohort_month, months_since. Retention of cohorts, and what they pay. activity: cohorts by registration month,
-- retained with an activity event in the month.
-- paying: cohorts by the month of the first MRR, retained with MRR at the month's end. What was not measured yet in a month has no value: who is active
-- before any activity was landed, and cash before any charge.
{{ config(
    materialized='incremental',
    unique_key=['cohort_kind', 'application', 'cohort_month', 'months_since'], affected_by=['cohort_month', 'month'],
    indexes=[{'columns': ['cohort_month', 'month']}]
) }}

with months as (
    select
        period_start::date as month,
        period_end
    from {{ ref('periods') }}
    where grain = 'month'
),

sightings as (
    select
        need,
        application,
        {{ start_of('month', 'first_at') }}::date as month
    from {{ ref('first_sightings') }}
),

accounts as (
    select * from {{ ref('accounts') }}
),

activity_sizes as (
    select
        case when grouping(application) = 1 then 'all' else application end as application,
        {{ start_of('month', 'created_at') }}::date as cohort_month,
        count(*) as cohort_size
    from accounts
    group by grouping sets ((application, {{ start_of('month', 'created_at') }}::date), ({{ start_of('month', 'created_at') }}::date))
),

activity_retained as (
    select
        case when grouping(application) = 1 then 'all' else application end as application,
        cohort_month,
        month,
        count(*) as retained_accounts
    from {{ ref('active_months') }}
    where cohort_month is not null and {{ only_affected('cohort_month, month') }}
    group by grouping sets ((application, cohort_month, month), (cohort_month, month))
),

payers as (
    select * from {{ ref('payers') }}
),

paying_sizes as (
    select
        application,
        cohort_month,
        count(distinct account_id) as cohort_size
    from payers
    group by application, cohort_month
),

paying_retained as (
    select
        payers.application,
        payers.cohort_month,
        mrr.month,
        count(distinct payers.account_id) as retained_accounts,
        sum(mrr.mrr_at_end_exact) as mrr
    from payers
    inner join {{ rows_of_affected(ref('mrr_by_account'), ['month']) }} as mrr
        on payers.account_id = mrr.account_id
        and payers.source_application = mrr.application
        and mrr.mrr_at_end_exact > 0
    where {{ only_affected('payers.cohort_month, mrr.month') }}
    group by payers.application, payers.cohort_month, mrr.month
),

-- what was paid before the first MRR counts from the cohort's month on
cohort_cash as (
    select
        application,
        cohort_month,
        greatest(paid_month, cohort_month) as month,
        sum(margin) as margin
    from {{ ref('cohort_cash') }}
    group by 1, 2, 3
),

cells as (
    select
        'activity' as cohort_kind,
        sizes.application,
        sizes.cohort_month,
        months.month,
        months.period_end,
        sizes.cohort_size,
        case when sightings.month <= months.month then coalesce(retained.retained_accounts, 0) end as retained_accounts,
        null::numeric as mrr
    from activity_sizes as sizes
    inner join months on sizes.cohort_month <= months.month
    left join sightings on sizes.application = sightings.application and sightings.need = 'events.account_id by account'
    left join activity_retained as retained
        on sizes.application = retained.application
        and sizes.cohort_month = retained.cohort_month
        and months.month = retained.month
    union all
    select
        'paying',
        sizes.application,
        sizes.cohort_month,
        months.month,
        months.period_end,
        sizes.cohort_size,
        coalesce(retained.retained_accounts, 0),
        coalesce(retained.mrr, 0)
    from paying_sizes as sizes
    inner join months on sizes.cohort_month <= months.month
    left join paying_retained as retained
        on sizes.application = retained.application
        and sizes.cohort_month = retained.cohort_month
        and months.month = retained.month
),

margins as (
    select
        sizes.application,
        sizes.cohort_month,
        months.month,
        case
            when sightings.month <= months.month then sum(coalesce(cohort_cash.margin, 0)) over (
                partition by sizes.application, sizes.cohort_month order by months.month
            ) / sizes.cohort_size
        end as cumulative_margin_per_account
    from paying_sizes as sizes
    inner join months on sizes.cohort_month <= months.month
    left join sightings on sizes.application = sightings.application and sightings.need = 'charges'
    left join cohort_cash
        on sizes.application = cohort_cash.application
        and sizes.cohort_month = cohort_cash.cohort_month
        and months.month = cohort_cash.month
)

select
    cells.cohort_kind,
    cells.application,
    cells.cohort_month,
    (extract(year from age(cells.month, cells.cohort_month)) * 12
    + extract(month from age(cells.month, cells.cohort_month)))::int as months_since,
    cells.month,
    cells.cohort_size::bigint as cohort_size,
    cells.retained_accounts::bigint as retained_accounts,
    100 * cells.retained_accounts::numeric / nullif(cells.cohort_size, 0) as retention_percent,
    {{ rounded('cells.mrr') }} as mrr,
    case when cells.cohort_kind = 'paying' then {{ rounded('margins.cumulative_margin_per_account') }} end
        as cumulative_margin_per_account,
    cells.period_end <= {{ as_of() }} as is_complete
from cells
left join margins
    on cells.application = margins.application
    and cells.cohort_month = margins.cohort_month
    and cells.month = margins.month
where {{ only_affected('cells.cohort_month, cells.month') }}
