-- Grain: metric_id, grain, period_start, application, segment, segment_value. Every metric's every value: the union of the
-- metrics_<domain> models. Publishing reads the parts (their meta names this mart), readers of the candidate this view.
{{ config(materialized='view', meta={'is_union': true}) }}

{% set parts = [
    ref('metrics_payments'),
    ref('metrics_revenue'),
    ref('metrics_accounts'),
    ref('metrics_acquisition_cost'),
    ref('metrics_activity'),
    ref('metrics_sessions'),
    ref('metrics_events'),
    ref('metrics_conversations'),
    ref('metrics_support'),
    ref('metrics_visitors'),
] %}
{% for part in parts %}
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
from {{ part }}
{{ 'union all' if not loop.last }}
{% endfor %}
