-- Grain: grain, period_start, application, segment, segment_value. The accounts that had MRR at the period's start,
-- compared with its end. plan_tier is the tier at the start.
{{ config(
    materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    lags=['1 month', '2 months'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set measures = {
    'accounts_at_start': 'count(*)',
    'accounts_lost': 'count(*) filter (where r.mrr_at_end = 0)',
    'mrr_at_start': 'sum(r.mrr_at_start)',
    'mrr_at_end': 'sum(r.mrr_at_end)',
    'mrr_kept': 'sum(least(r.mrr_at_end, r.mrr_at_start))',
} %}
{% set segments = ['plan_tier', 'country', 'account_type'] %}

with months as (
    select * from {{ ref('mrr_by_account') }}
    where {{ at_or_after_affected('month') }}
),

month_bases as (
    select
        account_id,
        application,
        plan_tier_at_start as plan_tier,
        country,
        legal_entity,
        account_type,
        month::timestamptz as happened_at,
        mrr_at_start_exact as mrr_at_start,
        mrr_at_end_exact as mrr_at_end
    from months
    where mrr_at_start_exact > 0
),

last_month as (
    select {{ start_of('month', as_of() ~ " - interval '1 microsecond'") }}::date as month
),

{% for grain, months in {'quarter': 3, 'year': 12}.items() %}
{{ grain }}_bases as (
    select
        opening.account_id,
        opening.application,
        opening.plan_tier_at_start as plan_tier,
        opening.country,
        opening.legal_entity,
        opening.account_type,
        opening.month::timestamptz as happened_at,
        opening.mrr_at_start_exact as mrr_at_start,
        coalesce(closing.mrr_at_end_exact, 0) as mrr_at_end
    from months as opening
    cross join last_month
    left join months as closing
        on opening.account_id = closing.account_id
        and opening.application = closing.application
        and closing.month = least((opening.month + interval '{{ months - 1 }} months')::date, last_month.month)
    where opening.mrr_at_start_exact > 0 and opening.month = {{ start_of(grain, 'opening.month::timestamp') }}::date
),
{% endfor %}

series as (
    select * from {{ ref('series_mrr') }}
),

measured as (
    {{ cube('month_bases', measures, segments, ['month']) }}
    union all
    {{ cube('quarter_bases', measures, segments, ['quarter']) }}
    union all
    {{ cube('year_bases', measures, segments, ['year']) }}
),

complete as (
    {{ in_series({'measured': measures}, 'series', ['month', 'quarter', 'year'], with_first=false) }}
)

select
    grain,
    period_start,
    period_end,
    application,
    segment,
    segment_value,
    {% for name in measures %}
    coalesce({{ name }}, 0) as {{ name }}{{ ',' if not loop.last }}
    {% endfor %}
from complete
