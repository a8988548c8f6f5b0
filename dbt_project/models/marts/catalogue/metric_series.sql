-- Grain: series_id, holds_from. Since when each series of a metric has values, and what holds where it has no point.
{{ config(meta={
    'key': ['series_id', 'holds_from'], 'lookups': [['metric_id', 'grain', 'application', 'segment', 'segment_value']],
}) }}

select * from {{ ref('series_states') }}
union all
select
    series_id,
    metric_id,
    grain,
    application,
    segment,
    segment_value,
    period_start as begins_at,
    series_state as state,
    period_start as holds_from,
    null::timestamptz as holds_until
from {{ ref('metrics_targets') }}
where series_state is not null
