-- Grain: metric_id, grain, period_start, application, segment, segment_value. Every value of every metric, including periods in which nothing
-- happened: a view, here over the candidate and in `marts` over the published tables.
{{ config(materialized='view', meta={'is_view': true}) }}

select
    metric_id,
    grain,
    period_start,
    application,
    segment,
    segment_value,
    numerator,
    denominator,
    value,
    is_complete,
    null_reason
from ({{ metric_values_of(ref('metric_points'), ref('metric_series'), ref('metrics'), ref('dim_periods'), as_of()) }}) as every_value
