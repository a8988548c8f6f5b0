-- Grain: series_id, holds_from. When each series of a metric begins, and what holds in its periods without a point.
{{ config(meta={
    'key': ['series_id', 'holds_from'], 'lookups': [['metric_id', 'grain', 'application', 'segment', 'segment_value']],
}) }}

with judging as (
    -- a first judgement that comes to lie earlier leaves the row of the one before in its place
    select
        series_id,
        metric_id,
        grain,
        application,
        segment,
        segment_value,
        min(period_start) as begins_at,
        min(series_state) as state
    from {{ ref('metrics_targets') }}
    where series_state is not null
    group by series_id, metric_id, grain, application, segment, segment_value
)

select * from {{ ref('series_states') }}
union all
select
    *,
    begins_at as holds_from,
    null::timestamptz as holds_until
from judging
