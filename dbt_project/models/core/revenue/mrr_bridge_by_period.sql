-- Grain: grain, period_start, application, segment, segment_value. How MRR went from each period's start to its end: opening + movements +
-- transfers = closing. A period before, in and after which a segment value has none has no row.
{{ config(
    materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    meta={'mart': 'mrr_bridge'},
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
{% set steps = {
    'opening': 'opening_mrr', 'new': 'new_amount', 'expansion': 'expansion_amount', 'reactivation': 'reactivation_amount',
    'contraction': 'contraction_amount', 'churned': 'churn_amount', 'fx': 'fx_amount', 'transferred_in': 'transferred_in',
    'transferred_out': 'transferred_out', 'closing': 'mrr',
} %}

with standing as (
    select * from {{ ref('mrr_by_period') }}
),

movements as (
    select * from {{ ref('mrr_movements_by_period') }}
),

transfers as (
    select * from {{ ref('mrr_transfers') }}
    where {{ at_or_after_affected('transferred_on') }}
),

-- what an account takes along leaves one tier and enters another; the company, a country and a type of account keep it
sides as (
    select
        application,
        to_plan_tier as plan_tier,
        transferred_on::timestamptz as happened_at,
        amount_exact as amount_in,
        0::numeric as amount_out
    from transfers
    union all
    select
        application,
        from_plan_tier,
        transferred_on::timestamptz,
        0,
        -amount_exact
    from transfers
),

both_sides as (
    {{ cube('sides', {'transferred_in': 'sum(r.amount_in)', 'transferred_out': 'sum(r.amount_out)'}, ['plan_tier'], grains) }}
),

transferred as (
    select * from both_sides
    where segment = 'plan_tier'
),

series as (
    select * from {{ ref('series_mrr') }}
),

side_by_side as (
    {{ in_series({
        'standing': ['opening_mrr', 'mrr'],
        'movements': ['new_amount', 'expansion_amount', 'reactivation_amount', 'contraction_amount', 'churn_amount', 'fx_amount'],
        'transferred': ['transferred_in', 'transferred_out'],
    }, 'series', grains, with_first=false) }}
),

steps as (
    select
        grain,
        period_start,
        period_end,
        application,
        segment,
        segment_value,
        {% for step, column in steps.items() %}
        trim_scale(coalesce({{ column }}, 0)) as {{ step }}_mrr{{ ',' if not loop.last }}
        {% endfor %}
    from side_by_side
)

select * from steps
where {% for step in steps %}{{ step }}_mrr != 0{{ ' or ' if not loop.last }}{% endfor %}
