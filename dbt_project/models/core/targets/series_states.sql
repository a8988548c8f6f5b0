-- Grain: series_id, holds_from. The series of all metrics except those that judge targets: when each begins, and its states. A state holds
-- for every period of its stretch that has no point: measured (0 or an empty base), not_measured (nothing it stands on was seen yet: no value,
-- points included), small_group (withheld, with every point), or the reason for which there is no value.
-- depends_on: {{ ref('metric_shapes') }}, {{ ref('periods') }}
with appeared as (
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
),

begun as (
    select
        appeared.*,
        {{ start_of_each('appeared.grain', 'coverage.measured_from') }} as measured_from,
        coalesce({{ start_of_each('appeared.grain', 'coverage.measured_from') }} > appeared.period_start, true) as is_late
    from appeared
    left join {{ ref('metric_coverage') }} as coverage
        on appeared.metric_id = coverage.metric_id and appeared.application = coverage.application
)

{% if suppress_below() > 0 %}
, {{ withheld_series() }}
{% else %}
select
    begun.series_id,
    begun.metric_id,
    begun.grain,
    begun.application,
    begun.segment,
    begun.segment_value,
    begun.period_start as begins_at,
    stretches.state,
    stretches.holds_from,
    stretches.holds_until
from begun
cross join lateral (
    select
        'not_measured' as state,
        begun.period_start as holds_from,
        begun.measured_from as holds_until
    where begun.is_late
    union all
    select
        begun.series_state,
        greatest(begun.period_start, begun.measured_from),
        null::timestamptz
    where begun.measured_from is not null
) as stretches
{% endif %}
