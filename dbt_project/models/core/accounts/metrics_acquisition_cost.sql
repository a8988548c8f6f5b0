-- Grain: metric_id, grain, period_start, application, segment, segment_value. Customer acquisition cost and market share.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    lags=['12 months'], scope_of={'spend_days': 'onward', 'market_sizes': 'onward'},
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set cac = rounded('spend / nullif(new_accounts, 0)') %}
{% set margin = ['margin_mrr / nullif(paying_accounts, 0)', 'last_month'] %}
{% set ltv = [rounded(margin[0] ~ ' / nullif(accounts_lost / nullif(accounts_at_start, 0), 0)'), 'last_month'] %}

with spend as (
    select
        application,
        amount_reporting,
        spend_on::timestamptz as happened_at
    from {{ ref('spend_days') }}
),

spenders as (
    {{ first_appearances('spend') }}
),

standing as (
    select * from {{ ref('accounts_by_period') }}
    where grain in ('month', 'quarter', 'year')
),

movements as (
    select * from {{ ref('mrr_movements_by_period') }}
    where segment = ''
),

revenue as (
    select
        grain,
        period_start,
        application,
        segment,
        segment_value,
        value as ltv,
        numerator as margin_per_account
    from {{ ref('metrics_revenue') }}
    where metric_id = 'ltv' and segment = ''
),

sizes as (
    select * from {{ ref('market_sizes') }}
),

-- of all periods: a change rate looks a year back
spent as (
    {{ measured('spend', {'spend': 'sum(r.amount_reporting)'}, [], ['month', 'quarter', 'year']) }}
    select
        g.grain,
        g.period_start,
        case when grouping(spend.application) = 1 then 'all' else spend.application end as application,
        sum(spend.amount_reporting) as amount
    from spend
    cross join lateral {{ grain_starts('spend.happened_at', ['month', 'quarter', 'year']) }} as g (grain, period_start)
    group by grouping sets ((g.grain, g.period_start, spend.application), (g.grain, g.period_start))
),

-- spend without a customer is a cost too: a row for every month, quarter and year since the first spend, which says that no spend is known as 0
cac as (
    select
        periods.grain,
        periods.period_start,
        periods.period_end,
        spenders.application,
        spenders.segment,
        spenders.segment_value,
        coalesce(spent.amount, 0) as spend,
        coalesce(movements.new_accounts, 0) as new_accounts,
        {{ rounded('coalesce(spent.amount, 0) / nullif(movements.new_accounts, 0)') }} as cac
    from spenders
    inner join {{ ref('periods') }} as periods on periods.grain in ('month', 'quarter', 'year') and spenders.first_at < periods.period_end
    left join spent
        on periods.grain = spent.grain
        and periods.period_start = spent.period_start
        and spenders.application = spent.application
    left join movements
        on periods.grain = movements.grain
        and periods.period_start = movements.period_start
        and spenders.application = movements.application
),

-- the newest estimate on or before the period's end
newest_sizes as (
    select distinct on (periods.grain, periods.period_start, sizes.application, sizes.country)
        periods.grain,
        periods.period_start,
        sizes.application,
        sizes.country,
        null::text as legal_entity,
        sizes.addressable_accounts
    from sizes
    inner join {{ ref('periods') }} as periods on periods.grain in ('quarter', 'year') and sizes.estimated_on < periods.period_end
    order by periods.grain, periods.period_start, sizes.application, sizes.country, sizes.estimated_on desc
),

-- an application's estimate for all countries beats the sum of its countries
market_totals as (
    select
        grain,
        period_start,
        application,
        coalesce(
            max(addressable_accounts) filter (where country = ''), sum(addressable_accounts) filter (where country != '')
        ) as addressable_accounts
    from newest_sizes
    group by grain, period_start, application
),

market as (
    {{ measured('market_totals', {'addressable_accounts': 'sum(r.addressable_accounts)'}, [], ['quarter', 'year'], kind='by_period') }}
    {{ measured('newest_sizes', {'addressable_accounts': "sum(r.addressable_accounts) filter (where r.country != '')"},
                ['country'], ['quarter', 'year'], kind='by_period') }}
    select
        grain,
        period_start,
        case when grouping(application) = 1 then 'all' else application end as application,
        '' as segment,
        '' as segment_value,
        sum(addressable_accounts) as addressable_accounts
    from market_totals
    group by grouping sets ((grain, period_start, application), (grain, period_start))
    union all
    select
        grain,
        period_start,
        case when grouping(application) = 1 then 'all' else application end,
        'country',
        country,
        sum(addressable_accounts)
    from newest_sizes
    where country != ''
    group by grouping sets ((grain, period_start, application, country), (grain, period_start, country))
    {% for segment in derived_segments() %}
    union all
    select
        grain,
        period_start,
        case when grouping(application) = 1 then 'all' else application end,
        '{{ segment }}',
        coalesce({{ segment }}, '(unknown)'),
        sum(addressable_accounts)
    from {{ with_derived('newest_sizes', ['country']) }} as r
    where country != ''
    group by grouping sets ((grain, period_start, application, {{ segment }}), (grain, period_start, {{ segment }}))
    {% endfor %}
),

-- an application may spend before anybody registers
begun as (
    select
        application,
        segment,
        segment_value,
        min(first_at) as first_at
    from (
        select application, segment, segment_value, first_at from {{ ref('series_accounts') }}
        where segment != 'acquisition_channel'
        union all
        select application, segment, segment_value, first_at from spenders
    ) as both_series
    group by application, segment, segment_value
),

earlier as (
    select
        grain,
        period_start + interval '12 months' as period_start,
        application,
        segment,
        segment_value,
        cac as cac_before
    from cac
),

placed as (
    {{ in_series({
        'standing': ['registered_creators'],
        'cac': ['spend', 'new_accounts', 'cac'],
        'earlier': ['cac_before'],
        'revenue': ['ltv', 'margin_per_account'],
        'market': ['addressable_accounts'],
    }, 'begun', ['month', 'quarter', 'year']) }}
)

{{ metric_rows('placed', {
    'cac': ['spend', 'new_accounts', {'null_reason': "case when spend is null then 'source_missing' else 'empty_base' end", 'idle_reason': 'source_missing'}],
    'cac_change_rate': ['cac - cac_before', 'cac_before', {
        'null_reason': "case when cac_before is null then 'no_earlier_value' else 'empty_base' end", 'idle_reason': 'no_earlier_value',
        'explained': {'cac': cac, 'cac_before': [cac, 'year_before']},
    }],
    'ltv_cac_ratio': ['ltv', 'case when ltv is not null then cac end', {
        'null_reason': "case when ltv is null then 'no_ltv' else 'empty_base' end", 'idle_reason': 'no_ltv',
        'explained': {'ltv': ltv, 'cac': cac},
    }],
    'market_share': ['registered_creators', 'addressable_accounts', {'null_reason': "case when addressable_accounts is null then 'source_missing' else 'empty_base' end", 'idle_reason': 'source_missing'}],
}) }}
