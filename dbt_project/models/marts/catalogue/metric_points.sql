-- Grain: series_id, period_start. Measured values: the points among the rows of the metrics_<domain> models. Publishing reads those
-- models (their meta names this mart); readers of the candidate read this view.
{{ config(
    materialized='view', meta={'is_union': true, 'key': ['series_id', 'period_start'], 'part_condition': measured_point(), 'columns': [
        'series_id', 'period_start', 'numerator', 'denominator', 'value', 'null_reason',
    ]}
) }}

with points as (
    {% for part in metric_parts() + ['metrics_targets'] %}
    select
        series_id,
        metric_id,
        grain,
        period_start,
        application,
        segment,
        segment_value,
        numerator,
        denominator,
        value,
        null_reason
    from {{ ref(part) }}
    where is_point
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- nothing of what no source measures, nor of a group that is too small to be shown
hidden as (
    select
        series_id,
        holds_from,
        holds_until
    from {{ ref('metric_series') }}
    where state in ('not_measured', 'small_group')
)

select * from points
where not exists (
    select 1 from hidden
    where hidden.series_id = points.series_id
        and hidden.holds_from <= points.period_start
        and (hidden.holds_until is null or points.period_start < hidden.holds_until)
)
