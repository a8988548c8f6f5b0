-- Grain: grain, period_start, application, segment, segment_value. MRR and paying accounts at the period's last instant,
-- and the MRR at its start.
{{ config(
    materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    scope_of={'account_mrr': 'onward'},
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
{% set measures = [
    'mrr', 'list_mrr', 'paying_accounts', 'creator_mrr', 'paying_creators', 'known_country_mrr', 'international_mrr', 'margin_mrr'
] %}

with states as (
    select
        account_id,
        application,
        changed_on,
        plan_tier_after as plan_tier,
        country,
        legal_entity,
        account_type,
        mrr_after as mrr,
        list_mrr_after as list_mrr,
        1 as sign
    from {{ ref('account_mrr') }}
    where mrr_after > 0
    union all
    select
        account_id,
        application,
        changed_on,
        plan_tier_before,
        country,
        legal_entity,
        account_type,
        mrr_before,
        list_mrr_before,
        -1
    from {{ ref('account_mrr') }}
    where mrr_before > 0
),

differences as (
    select
        account_id,
        application,
        changed_on::timestamptz as happened_at,
        plan_tier,
        country,
        legal_entity,
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

running as (
    {{ running_totals('differences', 'series', measures, ['plan_tier', 'country', 'account_type'], grains, 'account_id') }}
),

markets as (
    {{ measured('running', {'active_markets': "count(*) filter (where r.segment = 'country' and r.paying_accounts > 0 and r.segment_value != '(unknown)')"},
                [], grains, kind='by_period', has_totals=true) }}
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
