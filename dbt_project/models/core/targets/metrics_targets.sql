-- Grain: metric_id, grain, period_start, application, segment, segment_value. The share of targets that were met.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}

-- due and judged; a target without a number is met while its zone is green
with judged as (
    select
        periods.grain,
        periods.period_start,
        periods.application,
        coalesce(periods.is_target_met, periods.zone = 'green') as is_met
    from {{ ref('target_periods') }} as periods
    inner join {{ ref('judged_targets') }} as targets on periods.target_id = targets.target_id
    where periods.zone != 'unknown' and targets.due_at < periods.period_end
),

begun as (
    {{ first_appearances('judged', at='period_start') }}
),

measured as (
    {{ measured('judged', {'met': 'count(*) filter (where r.is_met)', 'due': 'count(*)'}, [], ['week', 'month', 'quarter', 'year'], kind='by_period') }}
    select
        r.grain,
        r.period_start,
        {{ segment_columns([]) }},
        count(*) filter (where r.is_met) as met,
        count(*) as due
    from judged as r
    where {{ only_affected('r.grain, r.period_start') }}
    group by {{ segment_sets([], 'r.grain, r.period_start') }}
),

placed as (
    {{ in_series({'measured': ['met', 'due']}, 'begun', ['week', 'month', 'quarter', 'year']) }}
)

{{ metric_rows('placed', {'targets_met_rate': ['met', 'due']}) }}
