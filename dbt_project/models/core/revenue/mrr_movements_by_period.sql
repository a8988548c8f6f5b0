-- Grain: grain, period_start, application, segment, segment_value. The movements of each period, by type.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
{% set measures = {'new_accounts': "count(*) filter (where r.movement_type = 'new')"} %}
{% for type in ['new', 'expansion', 'contraction', 'churn', 'reactivation', 'fx'] %}
    {% do measures.update({type ~ '_amount': "sum(r.amount_exact) filter (where r.movement_type = '" ~ type ~ "')"}) %}
{% endfor %}

with movements as (
    select
        account_id,
        application,
        plan_tier,
        country,
        legal_entity,
        account_type,
        movement_type,
        amount_exact,
        movement_date::timestamptz as happened_at
    from {{ ref('mrr_movements') }}
    where {{ at_or_after_affected('movement_date') }}
),

series as (
    select * from {{ ref('series_mrr') }}
),

measured as (
    {{ cube('movements', measures, ['plan_tier', 'country', 'account_type'], grains) }}
),

complete as (
    {{ in_series({'measured': measures}, 'series', grains, with_first=false) }}
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
