-- Grain: metric_id, grain, period_start, application, segment, segment_value. MRR, its movements, churn, and what is derived from them.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    lags=['12 months'],
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set margin = ['margin_mrr / nullif(paying_accounts, 0)', 'last_month'] %}
{% set churn = ['accounts_lost / nullif(accounts_at_start, 0)', 'last_month'] %}
{% set ltv = rounded(margin[0] ~ ' / nullif(' ~ churn[0] ~ ', 0)') %}
{# what exchange rates did to what stood is no movement #}
{% set moved = "coalesce(new_amount + expansion_amount + contraction_amount + churn_amount + reactivation_amount, 0)" %}
{% set constant_mrr = 'coalesce(opening_mrr, 0) + ' ~ moved %}

with snapshots as (
    select * from {{ ref('mrr_by_period') }}
),

movements as (
    select * from {{ ref('mrr_movements_by_period') }}
),

retention as (
    select * from {{ ref('mrr_retention_by_period') }}
),

series as (
    select * from {{ ref('series_mrr') }}
),

-- the ltv of a quarter or a year is that of its last month: ARPU is a monthly figure and wants a monthly churn rate
churn_rates as (
    select
        reported.grain,
        reported.period_start,
        retention.application,
        retention.segment,
        retention.segment_value,
        retention.accounts_lost::numeric / nullif(retention.accounts_at_start, 0) as churn_rate
    from retention
    cross join lateral (values
        {% for grain, months in {'quarter': 3, 'year': 12}.items() %}
        ('{{ grain }}', case when retention.period_start = least(
            {{ start_of(grain, 'retention.period_start') }} + interval '{{ months - 1 }} months', {{ start_of('month', as_of() ~ " - interval '1 microsecond'") }}
        ) then {{ start_of(grain, 'retention.period_start') }} end),
        {% endfor %}
        ('month', retention.period_start)
    ) as reported (grain, period_start)
    where retention.grain = 'month' and reported.period_start is not null
),

ltv as (
    select
        snapshots.grain,
        snapshots.period_start,
        snapshots.application,
        snapshots.segment,
        snapshots.segment_value,
        snapshots.margin_mrr / nullif(snapshots.paying_accounts, 0) as margin_per_account,
        {{ rounded('snapshots.margin_mrr / nullif(snapshots.paying_accounts, 0) / nullif(churn_rates.churn_rate, 0)') }} as ltv
    from snapshots
    left join churn_rates
        on snapshots.grain = churn_rates.grain
        and snapshots.period_start = churn_rates.period_start
        and snapshots.application = churn_rates.application
        and snapshots.segment = churn_rates.segment
        and snapshots.segment_value = churn_rates.segment_value
    where snapshots.grain in ('month', 'quarter', 'year')
),

earlier as (
    select
        grain,
        period_start + interval '12 months' as period_start,
        application,
        segment,
        segment_value,
        ltv as ltv_before
    from ltv
    where ltv is not null
),

placed as (
    {{ in_series({
        'snapshots': [
            'opening_mrr', 'mrr', 'list_mrr', 'paying_accounts', 'creator_mrr', 'paying_creators', 'known_country_mrr',
            'international_mrr', 'active_markets',
        ],
        'movements': ['new_amount', 'expansion_amount', 'contraction_amount', 'churn_amount', 'reactivation_amount'],
        'retention': ['accounts_at_start', 'accounts_lost', 'mrr_at_start', 'mrr_at_end', 'mrr_kept'],
        'ltv': ['margin_per_account', 'ltv'],
        'churn_rates': ['churn_rate'],
        'earlier': ['ltv_before'],
    }, 'series', ['day', 'week', 'month', 'quarter', 'year']) }}
)

{{ metric_rows('placed', {
    'mrr': ['mrr', none],
    'arr': ['mrr * 12', none],
    'mrr_growth_rate': ['mrr - opening_mrr', 'opening_mrr'],
    'mrr_constant_currency': [constant_mrr, none],
    'arr_constant_currency': ['(' ~ constant_mrr ~ ') * 12', none],
    'mrr_growth_rate_constant_currency': [moved, 'opening_mrr'],
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
    'ltv': ['margin_per_account', 'churn_rate', {
        'null_reason': "case when churn_rate = 0 then 'nobody_churned' else 'empty_base' end",
        'explained': {'margin_per_account': margin, 'churn_rate': churn},
    }],
    'ltv_growth_rate': ['ltv - ltv_before', 'ltv_before', {
        'null_reason': "case when ltv_before is null then 'no_earlier_value' else 'empty_base' end",
        'idle_reason': 'no_earlier_value',
        'explained': {'ltv': [ltv, 'last_month'], 'ltv_before': [ltv, 'last_month_of_year_before']},
    }],
    'international_revenue_share': ['international_mrr', 'known_country_mrr'],
    'active_markets': ['active_markets', none],
}) }}
