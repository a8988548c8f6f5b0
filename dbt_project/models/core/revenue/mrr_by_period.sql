-- Grain: grain, period_start, application, segment, segment_value. MRR and paying accounts at the period's last instant,
-- and the MRR it opened with.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month', 'quarter'] %}
{% set measures = {
    'mrr': 'sum(r.mrr)',
    'list_mrr': 'sum(r.list_mrr)',
    'paying_accounts': 'sum(r.paying_accounts)',
    'creator_mrr': 'sum(r.creator_mrr)',
    'paying_creators': 'sum(r.paying_creators)',
    'known_country_mrr': 'sum(r.known_country_mrr)',
    'international_mrr': 'sum(r.international_mrr)',
    'margin_mrr': 'sum(r.margin_mrr)',
} %}

with states as (
    select
        application,
        changed_on,
        plan_tier_after as plan_tier,
        country,
        account_type,
        mrr_after as mrr,
        list_mrr_after as list_mrr,
        1 as sign
    from {{ ref('account_mrr') }}
    where mrr_after > 0
    union all
    select
        application,
        changed_on,
        plan_tier_before,
        country,
        account_type,
        mrr_before,
        list_mrr_before,
        -1
    from {{ ref('account_mrr') }}
    where mrr_before > 0
),

differences as (
    select
        application,
        changed_on::timestamptz as happened_at,
        plan_tier,
        country,
        account_type,
        sign * mrr as mrr,
        sign * list_mrr as list_mrr,
        sign as paying_accounts,
        case when account_type = 'creator' then sign * mrr else 0 end as creator_mrr,
        case when account_type = 'creator' then sign else 0 end as paying_creators,
        case when country is not null then sign * mrr else 0 end as known_country_mrr,
        case when country != {{ rule_by_application('home_country', 'application', 'US') }} then sign * mrr else 0 end
            as international_mrr,
        sign * mrr * {{ rule_by_application('gross_margin', 'application', 0.8) }} as margin_mrr
    from states
),

series as (
    select * from {{ ref('series_mrr') }}
),

periods as (
    {{ periods_to_build(grains) }}
),

first_periods as (
    select
        grain,
        min(period_start) as first_start
    from periods
    group by grain
),

-- what happened before the first period that is built opens it
clamped as (
    select
        first_periods.grain,
        greatest(date_trunc(first_periods.grain, differences.happened_at), first_periods.first_start) as period_start,
        differences.happened_at < first_periods.first_start as is_opening,
        differences.*
    from differences
    cross join first_periods
),

measured as (
    select
        r.grain,
        r.period_start,
        {{ segment_columns(['plan_tier', 'country', 'account_type']) }},
        {% for name, expression in measures.items() %}
        {{ expression }} as {{ name }},
        {% endfor %}
        coalesce(sum(r.mrr) filter (where r.is_opening), 0) as opened_before
    from clamped as r
    group by {{ segment_sets(['plan_tier', 'country', 'account_type'], 'r.grain, r.period_start') }}
),

complete as (
    {{ filled('measured', 'series', measures.keys() | list + ['opened_before'], grains) }}
),

running as (
    select
        grain,
        period_start,
        period_end,
        application,
        segment,
        segment_value,
        {% for name in measures %}
        sum(coalesce({{ name }}, 0)) over to_date as {{ name }},
        {% endfor %}
        sum(coalesce(mrr, 0)) over to_date - coalesce(mrr, 0) + coalesce(opened_before, 0) as opening_mrr
    from complete
    window to_date as (partition by grain, application, segment, segment_value order by period_start)
),

markets as (
    select
        grain,
        period_start,
        application,
        count(*) filter (where paying_accounts > 0 and segment_value != '(unknown)') as active_markets
    from running
    where segment = 'country'
    group by grain, period_start, application
)

select
    running.grain,
    running.period_start,
    running.period_end,
    running.application,
    running.segment,
    running.segment_value,
    running.opening_mrr,
    {% for name in measures %}
    running.{{ name }},
    {% endfor %}
    case when running.segment = '' then coalesce(markets.active_markets, 0) end as active_markets
from running
left join markets
    on running.grain = markets.grain
    and running.period_start = markets.period_start
    and running.application = markets.application
