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
        min(period_start) - 8 * case grain when 'quarter' then interval '3 months' else ('1 ' || grain)::interval end as begins_at
    from affected_target_periods
    group by grain
),
{% endif %}

measured as (
    {% for part in metric_parts() %}
    select
        targets.target_id,
        part.grain,
        part.period_start,
        part.value
    from {{ ref(part) }} as part
    inner join targets
        on part.metric_id = targets.metric_id
        and part.grain = targets.grain
        and part.application = targets.application
        and part.segment = targets.segment
        and part.segment_value = targets.segment_value
    {% if is_incremental() %}
    inner join scope on part.grain = scope.grain and part.period_start >= scope.begins_at
    {% endif %}
    where part.is_complete
    {{ 'union all' if not loop.last }}
    {% endfor %}
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
    compared.period_start + case compared.grain when 'quarter' then interval '3 months' else ('1 ' || compared.grain)::interval end
        as period_end,
    targets.application,
    compared.value,
    {{ target_zone('targets', 'compared.value', 'compared.mean_before', 'compared.deviation_before', 'compared.periods_before') }}
        as zone,
    case when targets.target is not null then {{ target_met('targets', 'compared.value') }} end as is_target_met
from compared
inner join targets on compared.target_id = targets.target_id
where {{ only_affected('compared.grain, compared.period_start') }}
