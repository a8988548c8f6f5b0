-- Grain: funnel, application, grain, period_start, stage_number. How many of the visitors who entered in the period reached each stage. A stage has no
-- value in periods whose window ended before its first event came, nor have those behind it.
{{ config(
    materialized='incremental',
    unique_key=['funnel', 'application', 'grain', 'period_start', 'stage_number'], affected_by=['grain', 'period_start'],
    indexes=[{'columns': ['grain', 'period_start']}]
) }}

with stages as (
    select * from {{ ref('funnels') }}
),

entries as (
    select * from {{ ref('funnel_entries') }}
    where {{ at_or_after_affected('entered_at', grains=['day', 'week', 'month']) }}
),

counted as (
    select
        g.grain,
        g.period_start,
        entries.funnel,
        entries.stage_number,
        count(*) as visitors,
        percentile_cont(0.5) within group (order by entries.seconds_from_previous) as median_seconds_from_previous
    from entries
    cross join lateral {{ grain_starts('entries.entered_at', ['day', 'week', 'month']) }} as g (grain, period_start)
    where {{ only_affected('g.grain, g.period_start') }}
    group by 1, 2, 3, 4
),

complete as (
    select
        stages.funnel,
        stages.application,
        periods.grain,
        periods.period_start,
        periods.period_end,
        stages.stage_number,
        stages.stage,
        stages.target_conversion_percent,
        stages.window_days,
        case
            when bool_and(coalesce(seen.first_at < periods.period_end + make_interval(days => stages.window_days), false)) over up_to_here
                then coalesce(counted.visitors, 0)
        end as visitors,
        counted.median_seconds_from_previous
    from stages
    inner join {{ ref('series_funnels') }} as series on stages.funnel = series.funnel
    inner join ({{ periods_to_build(['day', 'week', 'month']) }}) as periods on periods.period_end > series.first_at
    left join {{ ref('series_funnel_stages') }} as seen on stages.funnel = seen.funnel and stages.stage_number = seen.stage_number
    left join counted
        on stages.funnel = counted.funnel
        and stages.stage_number = counted.stage_number
        and periods.grain = counted.grain
        and periods.period_start = counted.period_start
    window up_to_here as (partition by stages.funnel, periods.grain, periods.period_start order by stages.stage_number)
)

select
    funnel,
    application,
    grain,
    period_start,
    stage_number,
    stage,
    visitors,
    100 * visitors::numeric / nullif(lag(visitors) over path, 0) as from_previous_percent,
    100 * visitors::numeric / nullif(first_value(visitors) over path, 0) as from_first_percent,
    target_conversion_percent as target_percent,
    median_seconds_from_previous::numeric as median_seconds_from_previous,
    period_end + make_interval(days => window_days) <= {{ as_of() }} as is_complete
from complete
window path as (partition by funnel, application, grain, period_start order by stage_number)
