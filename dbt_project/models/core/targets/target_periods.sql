-- Grain: target_id, grain, period_start. Each complete period of a target's metric, judged.
{{ config(
    materialized='incremental', unique_key=['target_id', 'grain', 'period_start'],
    affected_by=['grain', 'period_start'], indexes=[{'columns': ['target_id', 'period_start']}, {'columns': ['period_start', 'grain']}]
) }}

with targets as (
    select * from {{ ref('judged_targets') }}
),

{% if is_incremental() %}
-- a trend looks eight periods back
scope as (
    select
        grain,
        min(period_start) - 8 * {{ length_of('grain') }} as begins_at
    from affected_target_periods
    group by grain
),
{% endif %}

target_series as (
    select
        targets.target_id,
        states.*
    from {{ ref('series_states') }} as states
    inner join targets
        on states.metric_id = targets.metric_id
        and states.grain = targets.grain
        and states.application = targets.application
        and states.segment = targets.segment
        and states.segment_value = targets.segment_value
),

periods as (
    select periods.* from {{ ref('periods') }} as periods
    {% if is_incremental() %}
    inner join scope on periods.grain = scope.grain and periods.period_start >= scope.begins_at
    {% endif %}
),

points as (
    {% for part in metric_parts() %}
    select
        part.series_id,
        part.period_start,
        part.numerator,
        part.denominator,
        part.value,
        part.null_reason
    from {{ ref(part) }} as part
    {% if is_incremental() %}
    inner join scope on part.grain = scope.grain and part.period_start >= scope.begins_at
    {% endif %}
    where part.is_point and part.series_id in (select series_id from target_series)
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

every_value as (
    {{ metric_values_of('points', "(select distinct series_id, metric_id, grain, application, segment, segment_value, state, holds_from, holds_until from target_series)",
                        ref('metric_catalogue'), 'periods', as_of()) }}
),

measured as (
    select
        targets.target_id,
        every_value.grain,
        every_value.period_start,
        every_value.numerator,
        every_value.denominator,
        every_value.value
    from every_value
    inner join targets
        on every_value.metric_id = targets.metric_id
        and every_value.grain = targets.grain
        and every_value.application = targets.application
        and every_value.segment = targets.segment
        and every_value.segment_value = targets.segment_value
    where every_value.is_complete
),

compared as (
    select
        *,
        avg(value) over before as mean_before,
        stddev_samp(value) over before as deviation_before,
        count(value) over before as periods_before
    from measured
    window before as (partition by target_id order by period_start rows between 8 preceding and 1 preceding)
)

select
    targets.target_id,
    compared.grain,
    compared.period_start,
    compared.period_start + {{ length_of('compared.grain') }} as period_end,
    targets.application,
    compared.numerator,
    compared.denominator,
    compared.value,
    {{ target_zone('targets', 'compared.value', 'compared.mean_before', 'compared.deviation_before', 'compared.periods_before') }}
        as zone,
    case when targets.target is not null then {{ target_met('targets', 'compared.value') }} end as is_target_met
from compared
inner join targets on compared.target_id = targets.target_id
where {{ only_affected('compared.grain, compared.period_start') }}
