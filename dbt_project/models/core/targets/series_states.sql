-- Grain: series_id, holds_from. The series of all metrics except those that judge targets: when each begins, and its states. A state holds
-- for every period of its stretch that has no point: measured (0 or an empty base), small_group (withheld, with every point), or the
-- reason for which there is no value.
-- depends_on: {{ ref('metric_shapes') }}, {{ ref('periods') }}
with begun as (
    {% for part in metric_parts() %}
    select
        series_id,
        metric_id,
        grain,
        application,
        segment,
        segment_value,
        period_start,
        series_state
    from {{ ref(part) }}
    where series_state is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

{% if suppress_below() > 0 %}
, {{ withheld_series() }}
{% else %}
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
from begun
{% endif %}
