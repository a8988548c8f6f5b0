-- Grain: metric_id, grain, segment. The catalogue's rows, one for each grain and segment ('' is the total).
{{ config(time_dependent=false) }}
with metrics as (
    select * from {{ ref('metric_catalogue') }}
),

grains as (
    select
        metric_id,
        trim(grain) as grain
    from metrics
    cross join unnest(string_to_array(grains, ',')) as grain
),

segments as (
    select
        metric_id,
        trim(segment) as segment
    from metrics
    cross join unnest(string_to_array(coalesce({{ catalogue_segments('segments') }}, ''), ';') || array['']) as segment
)

select distinct
    metrics.metric_id,
    grains.grain,
    segments.segment,
    metrics.domain,
    metrics.kind,
    metrics.unit,
    -- a share that nobody measured is not 0
    metrics.kind in ('sum', 'count', 'distinct', 'ratio', 'mean')
    or (metrics.kind = 'snapshot' and metrics.unit != 'percent') as is_zero_filled
from metrics
inner join grains on metrics.metric_id = grains.metric_id
inner join segments on metrics.metric_id = segments.metric_id
