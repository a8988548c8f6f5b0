-- Grain: account_id, application, month. An account's MRR at each month's start and end, for months in which it has any at one of the two.
{{ config(
    materialized='incremental', unique_key=['account_id', 'application', 'month'],
    affected_by=['account_id'], touches=['month'],
    ordered_by=['account_id', 'month'], indexes=[{'columns': ['account_id', 'application', 'month'], 'unique': true}, {'columns': ['month']}]
) }}

with spells as (
    select
        *,
        -- the last day that is part of the spell, or of history
        coalesce(next_changed_on - 1, ({{ as_of() }} - interval '1 microsecond')::date) as last_on
    from {{ ref('account_mrr') }}
    where mrr_after > 0 and {{ only_affected('account_id') }}
),

this_month as (
    select {{ start_of('month', as_of() ~ " - interval '1 microsecond'") }}::date as month
),

month_ends as (
    select
        spells.account_id,
        spells.application,
        months.month::date as month,
        spells.mrr_after as mrr,
        spells.plan_tier_after as plan_tier,
        spells.country,
        spells.legal_entity,
        spells.account_type
    from spells
    cross join this_month
    cross join lateral generate_series(
        {{ start_of('month', 'spells.changed_on::timestamp') }}, {{ start_of('month', 'spells.last_on::timestamp') }}, interval '1 month'
    ) as months (month)
    where spells.last_on >= (months.month + interval '1 month')::date - 1
        or (months.month::date = this_month.month and spells.next_changed_on is null)
),

both_ends as (
    select
        account_id,
        application,
        month,
        country,
        legal_entity,
        account_type,
        0::numeric as mrr_at_start,
        mrr as mrr_at_end,
        null::text as plan_tier_at_start,
        plan_tier as plan_tier_at_end
    from month_ends
    union all
    select
        month_ends.account_id,
        month_ends.application,
        (month_ends.month + interval '1 month')::date,
        month_ends.country,
        month_ends.legal_entity,
        month_ends.account_type,
        month_ends.mrr,
        0::numeric,
        month_ends.plan_tier,
        null
    from month_ends
    cross join this_month
    where month_ends.month < this_month.month
)

select
    account_id,
    application,
    month,
    {{ rounded('sum(mrr_at_start)') }} as mrr_at_start,
    {{ rounded('sum(mrr_at_end)') }} as mrr_at_end,
    max(plan_tier_at_start) as plan_tier_at_start,
    max(plan_tier_at_end) as plan_tier_at_end,
    max(country) as country,
    max(legal_entity) as legal_entity,
    max(account_type) as account_type,
    sum(mrr_at_start) as mrr_at_start_exact,
    sum(mrr_at_end) as mrr_at_end_exact
from both_ends
group by account_id, application, month
