-- Grain: metric_id, grain, period_start, application, segment, segment_value. Every metric's every value: the union of the
-- metrics_<domain> models. Publishing reads the parts (their meta names this mart), readers of the candidate this view.
{{ config(materialized='view', meta={'is_union': true}) }}

{% for part in metric_parts() + ['metrics_targets'] %}
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
from {{ ref(part) }}
{{ 'union all' if not loop.last }}
{% endfor %}
