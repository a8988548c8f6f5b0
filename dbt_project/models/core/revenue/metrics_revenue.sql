-- Grain: metric_id, grain, period_start, application, segment, segment_value. MRR, its movements, churn and what follows.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
) }}
{% set margin = ['margin_mrr / nullif(paying_accounts, 0)', 'last_month'] %}
{% set churn = ['accounts_lost / nullif(accounts_at_start, 0)', 'last_month'] %}
{% set ltv = 'round(' ~ margin[0] ~ ' / nullif(' ~ churn[0] ~ ', 0), 2)' %}

with snapshots as (
    select * from {{ ref('mrr_by_period') }}
    where {{ only_affected('grain, period_start') }}
),

movements as (
    select * from {{ ref('mrr_movements_by_period') }}
),

retention as (
    select * from {{ ref('mrr_retention_by_period') }}
),

all_snapshots as (
    select * from {{ ref('mrr_by_period') }}
),

-- the ltv of a quarter is that of its last month: ARPU is a monthly figure and wants a monthly churn rate
churn_months as (
    select
        *,
        case when month_of_quarter then date_trunc('quarter', period_start) else period_start end as reported_start,
        case when month_of_quarter then 'quarter' else 'month' end as reported_grain
    from retention
    cross join (values (false), (true)) as both_grains (month_of_quarter)
    where grain = 'month'
),

ltv_bases as (
    select distinct on (reported_grain, reported_start, application, segment, segment_value)
        reported_grain as grain,
        reported_start as period_start,
        application,
        segment,
        segment_value,
        accounts_at_start,
        accounts_lost
    from churn_months
    order by reported_grain, reported_start, application, segment, segment_value, churn_months.period_start desc
),

ltv as (
    select
        ltv_bases.*,
        all_snapshots.margin_mrr / nullif(all_snapshots.paying_accounts, 0) as margin_per_account,
        ltv_bases.accounts_lost::numeric / nullif(ltv_bases.accounts_at_start, 0) as churn_rate
    from ltv_bases
    inner join all_snapshots
        on ltv_bases.grain = all_snapshots.grain
        and ltv_bases.period_start = all_snapshots.period_start
        and ltv_bases.application = all_snapshots.application
        and ltv_bases.segment = all_snapshots.segment
        and ltv_bases.segment_value = all_snapshots.segment_value
),

wide as (
    select
        snapshots.*,
        movements.new_amount,
        movements.expansion_amount,
        movements.contraction_amount,
        movements.churn_amount,
        movements.reactivation_amount,
        retention.accounts_at_start,
        retention.accounts_lost,
        retention.mrr_at_start,
        retention.mrr_at_end,
        retention.mrr_kept,
        ltv.margin_per_account,
        ltv.churn_rate,
        round(ltv.margin_per_account / nullif(ltv.churn_rate, 0), 2) as ltv,
        round(ltv_before.margin_per_account / nullif(ltv_before.churn_rate, 0), 2) as ltv_before
    from snapshots
    left join movements
        on snapshots.grain = movements.grain
        and snapshots.period_start = movements.period_start
        and snapshots.application = movements.application
        and snapshots.segment = movements.segment
        and snapshots.segment_value = movements.segment_value
    left join retention
        on snapshots.grain = retention.grain
        and snapshots.period_start = retention.period_start
        and snapshots.application = retention.application
        and snapshots.segment = retention.segment
        and snapshots.segment_value = retention.segment_value
    left join ltv
        on snapshots.grain = ltv.grain
        and snapshots.period_start = ltv.period_start
        and snapshots.application = ltv.application
        and snapshots.segment = ltv.segment
        and snapshots.segment_value = ltv.segment_value
    left join ltv as ltv_before
        on snapshots.grain = ltv_before.grain
        and snapshots.period_start - interval '12 months' = ltv_before.period_start
        and snapshots.application = ltv_before.application
        and snapshots.segment = ltv_before.segment
        and snapshots.segment_value = ltv_before.segment_value
)

{{ metric_rows('wide', {
    'mrr': ['mrr', none],
    'arr': ['mrr * 12', none],
    'mrr_growth_rate': ['mrr - opening_mrr', 'opening_mrr'],
    'new_mrr': ['new_amount', none],
    'expansion_mrr': ['expansion_amount', none],
    'contraction_mrr': ['contraction_amount', none],
    'churned_mrr': ['churn_amount', none],
    'reactivation_mrr': ['reactivation_amount', none],
    'net_new_mrr': ['new_amount + expansion_amount + contraction_amount + churn_amount + reactivation_amount', none],
    'paying_accounts': ['paying_accounts', none],
    'arpu': ['mrr', 'paying_accounts'],
    'revenue_per_creator': ['creator_mrr', 'paying_creators'],
    'price_realisation': ['mrr', 'list_mrr'],
    'customer_churn_rate': ['accounts_lost', 'accounts_at_start'],
    'net_revenue_retention': ['mrr_at_end', 'mrr_at_start'],
    'gross_revenue_retention': ['mrr_kept', 'mrr_at_start'],
    'quick_ratio': ['new_amount + expansion_amount + reactivation_amount', '-(contraction_amount + churn_amount)'],
    'ltv': ['margin_per_account', 'churn_rate', {
        'null_reason': "case when churn_rate = 0 then 'nobody_churned' else 'empty_base' end",
        'explained': {'margin_per_account': margin, 'churn_rate': churn},
    }],
    'ltv_growth_rate': ['ltv - ltv_before', 'ltv_before', {
        'null_reason': "case when ltv_before is null then 'no_earlier_value' else 'empty_base' end",
        'explained': {'ltv': [ltv, 'last_month'], 'ltv_before': [ltv, 'last_month_of_year_before']},
    }],
    'international_revenue_share': ['international_mrr', 'known_country_mrr'],
    'active_markets': ['active_markets', none],
}) }}
