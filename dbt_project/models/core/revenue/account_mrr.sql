-- Grain: application, account_id, changed_on. An account's MRR at the end of each day on which it changed.
-- The opening MRR is first brought to the day's rate (fx), then the rest of the difference is the day's movement.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'account_id', 'changed_on'], affected_by=['account_id'],
    scope_of={'stg_fx_rates': rated_rows('fct_subscription_periods', "coalesce(related.counts_until_on, 'infinity')")},
    touches=['changed_on'],
    quiet=['next_changed_on'],
    ordered_by=['account_id'], indexes=[{'columns': ['account_id']}]
) }}

with periods as (
    select * from {{ ref('fct_subscription_periods') }}
    where mrr_in_currency > 0 and (counts_until_on > counts_from_on or counts_until_on is null)
        and {{ only_affected('account_id') }}
),

rates as (
    select * from {{ ref('fx_daily') }}
),

rate_changes as (
    select
        currency,
        rate_on
    from (
        select
            *,
            lag(rate) over (partition by currency order by rate_on) as rate_before
        from rates
    ) as daily
    where rate != rate_before
),

accounts as (
    select * from {{ ref('accounts') }}
),

days as (
    select
        application,
        account_id,
        counts_from_on as changed_on
    from periods
    union
    select
        application,
        account_id,
        counts_until_on
    from periods
    where counts_until_on is not null
    union
    select
        periods.application,
        periods.account_id,
        rate_changes.rate_on
    from periods
    inner join rate_changes
        on periods.currency = rate_changes.currency
        and rate_changes.rate_on > periods.counts_from_on
        and (rate_changes.rate_on < periods.counts_until_on or periods.counts_until_on is null)
),

holdings as (
    select
        days.application,
        days.account_id,
        days.changed_on,
        periods.plan_id,
        periods.plan_tier,
        periods.counts_from_on < days.changed_on as was_held,
        coalesce(periods.counts_until_on > days.changed_on, true) as is_held,
        periods.mrr_in_currency * {{ reporting_rate('periods.currency', 'rates_before.rate') }} as mrr_then,
        periods.mrr_in_currency * {{ reporting_rate('periods.currency', 'rates.rate') }} as mrr_now,
        periods.list_mrr_in_currency * {{ reporting_rate('periods.currency', 'rates.rate') }} as list_mrr_now
    from days
    inner join periods
        on days.application = periods.application
        and days.account_id = periods.account_id
        and days.changed_on >= periods.counts_from_on
        and (days.changed_on <= periods.counts_until_on or periods.counts_until_on is null)
    left join rates on periods.currency = rates.currency and days.changed_on = rates.rate_on
    left join rates as rates_before
        on periods.currency = rates_before.currency and days.changed_on - 1 = rates_before.rate_on
),

day_ends as (
    select
        application,
        account_id,
        changed_on,
        coalesce(sum(mrr_then) filter (where was_held), 0) as mrr_before,
        coalesce(sum(mrr_now) filter (where was_held), 0) as mrr_before_at_rate,
        coalesce(sum(mrr_now) filter (where is_held), 0) as mrr_after,
        coalesce(sum(list_mrr_now) filter (where is_held), 0) as list_mrr_after,
        (array_agg(plan_tier order by mrr_then desc nulls last, plan_id) filter (where was_held))[1] as plan_tier_before,
        (array_agg(plan_tier order by mrr_now desc nulls last, plan_id) filter (where is_held))[1] as plan_tier_after
    from holdings
    group by application, account_id, changed_on
),

changes as (
    select
        *,
        min(changed_on) filter (where mrr_after > 0) over (partition by application, account_id) as first_paid_on
    from day_ends
    where mrr_before != mrr_after
        or mrr_before != mrr_before_at_rate
        or plan_tier_before is distinct from plan_tier_after
)

select
    changes.application,
    changes.account_id,
    changes.changed_on,
    lead(changes.changed_on) over (partition by changes.application, changes.account_id order by changes.changed_on)
        as next_changed_on,
    changes.mrr_before,
    changes.mrr_before_at_rate,
    changes.mrr_after,
    lag(changes.list_mrr_after, 1, 0::numeric) over (
        partition by changes.application, changes.account_id order by changes.changed_on
    ) as list_mrr_before,
    changes.list_mrr_after,
    changes.plan_tier_before,
    changes.plan_tier_after,
    changes.mrr_before_at_rate - changes.mrr_before as fx_amount,
    changes.mrr_after - changes.mrr_before_at_rate as movement_amount,
    case
        when changes.mrr_before = 0 and changes.mrr_after = 0 then null
        when changes.mrr_before = 0 and changes.changed_on = changes.first_paid_on then 'new'
        when changes.mrr_before = 0 then 'reactivation'
        when changes.mrr_after = 0 then 'churn'
        when changes.mrr_after > changes.mrr_before_at_rate then 'expansion'
        when changes.mrr_after < changes.mrr_before_at_rate then 'contraction'
    end as movement_type,
    accounts.country,
    accounts.legal_entity,
    accounts.account_type
from changes
left join accounts on changes.account_id = accounts.account_id
