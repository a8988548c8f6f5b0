-- Grain: metric_id, grain, period_start, application, segment, segment_value. What legal entities earned in their own currency, where
-- `legal_entities` names one: what stands by the rate of the period's last day, what flows by the rates of its days.
{{ config(meta={'key': ['metric_id', 'grain', 'period_start', 'application', 'segment', 'segment_value']}) }}
-- depends_on: {{ ref('metrics_revenue') }} {{ ref('metrics_payments') }} {{ ref('fx_daily') }} {{ ref('periods') }} {{ ref('currencies') }} {{ ref('metric_series') }}
{% set standing = ['mrr', 'arr'] %}
{% set movements = ['new_mrr', 'expansion_mrr', 'contraction_mrr', 'churned_mrr', 'reactivation_mrr', 'net_new_mrr'] %}
{% set grains = ['month', 'quarter', 'year'] %}
{% if entity_currencies() %}

with entities (segment_value, currency) as (
    values
    {% for entity in entity_currencies() %}
    ('{{ entity.id }}', '{{ entity.currency }}'){{ ',' if not loop.last }}
    {% endfor %}
),

rates as (
    select * from {{ ref('fx_daily') }}
),

points as (
    select * from {{ ref('metrics_revenue') }}
    where metric_id in ({{ quoted(standing + movements) }})
    union all
    select * from {{ ref('metrics_payments') }}
    where metric_id = 'cash_collected'
),

-- all that happened on a day is converted by the rate of that day, so the quotient of its sum is exact
dated as (
    select
        points.metric_id,
        points.grain,
        points.period_start,
        points.application,
        points.segment_value,
        points.numerator,
        case when points.grain = 'day' then points.period_start else least(periods.period_end, {{ as_of() }}) - interval '1 microsecond' end
            as rated_at
    from points
    inner join {{ ref('periods') }} as periods on points.grain = periods.grain and points.period_start = periods.period_start
    where points.segment = 'entity' and points.is_point
        and case when points.metric_id in ({{ quoted(standing) }}) then points.grain in ({{ quoted(grains) }}) else points.grain = 'day' end
        {% if suppress_below() > 0 %}
        and points.segment_value not in (
            select segment_value from {{ ref('metric_series') }}
            where state = 'small_group' and segment = 'entity'
        )
        {% endif %}
),

converted as (
    select
        dated.*,
        entities.currency,
        dated.numerator / {{ reporting_rate('entities.currency', 'rates.rate') }} as amount
    from dated
    inner join entities on dated.segment_value = entities.segment_value
    left join rates on entities.currency = rates.currency and dated.rated_at::date = rates.rate_on
),

by_period as (
    select
        converted.*,
        converted.grain as reported_grain,
        converted.period_start as reported_start
    from converted
    where converted.grain != 'day'
    union all
    select
        converted.*,
        reported.grain,
        reported.period_start
    from converted
    cross join lateral {{ grain_starts('converted.period_start', grains) }} as reported (grain, period_start)
    where converted.grain = 'day'
)

select
    by_period.metric_id,
    by_period.reported_grain as grain,
    by_period.reported_start as period_start,
    by_period.application,
    'entity' as segment,
    by_period.segment_value,
    by_period.currency,
    case when count(*) = count(by_period.amount) then round(sum(by_period.amount), coalesce(max(currencies.exponent), 2)) end as value,
    '{{ rule("reporting_currency") }}' as reporting_currency,
    {{ rounded('sum(by_period.numerator)') }} as value_reporting
from by_period
left join {{ ref('currencies') }} as currencies on by_period.currency = currencies.currency
group by 1, 2, 3, 4, 6, 7
{% else %}

select
    null::text as metric_id,
    null::text as grain,
    null::timestamptz as period_start,
    null::text as application,
    null::text as segment,
    null::text as segment_value,
    null::text as currency,
    null::numeric as value,
    null::text as reporting_currency,
    null::numeric as value_reporting
where false
{% endif %}
