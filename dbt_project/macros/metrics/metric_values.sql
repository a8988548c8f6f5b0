{#
Every metric's value in every period, from what is stored of it: the points (periods in which something was measured) and the series
(since when there is one, and what holds where it has no point). The candidate, the published marts and an earlier version read this one
text, each over its own relations; it is plain Jinja, for northstar.publish renders it too.

points: series_id, period_start, numerator, denominator, value, null_reason. series: series_id, metric_id, grain, application, segment,
segment_value, state, holds_from, holds_until. metrics: metric_id, kind, unit, window_days. periods: grain, period_start, period_end.
as_of: the logical time of the numbers. version: an expression for `_version`, over s and v; none leaves it out.

Where nothing happened a count, a sum or what stands is 0; a ratio has an empty base, and a median or maximum no value. A group that is too
small to be shown has nothing at all, and neither has what no source measures. Arithmetic is in hours, so that a reader's time zone changes nothing.
#}
{% macro metric_values_of(points, series, metrics, periods, as_of, version=none) -%}
    {%- set counts = "(m.kind in ('sum', 'count', 'distinct') or m.kind = 'snapshot' and m.unit != 'percent')" -%}
    {%- set rates = "m.kind in ('ratio', 'mean')" -%}
    select
        s.metric_id,
        s.grain,
        p.period_start,
        s.application,
        s.segment,
        s.segment_value,
        case
            when v.series_id is not null then v.numerator
            when s.state not in ('small_group', 'not_measured') and ({{ counts }} or {{ rates }}) then 0
        end as numerator,
        case
            when v.series_id is not null then v.denominator
            when s.state not in ('small_group', 'not_measured') and m.kind in ('ratio', 'mean', 'median', 'percentile') then 0
        end as denominator,
        case
            when v.series_id is not null then v.value
            when s.state = 'measured' and {{ counts }} then case when m.unit = 'money' then 0.00 else 0 end
        end as value,
        p.period_end + m.window_days * interval '24 hours' <= {{ as_of }} as is_complete,
        case
            when v.series_id is not null then v.null_reason
            when s.state = 'not_measured' then 'source_missing'
            when s.state != 'measured' then s.state
            when not {{ counts }} then 'empty_base'
        end as null_reason
        {%- if version %},
        {{ version }} as _version
        {%- endif %}
    from {{ series }} as s
    inner join {{ metrics }} as m on s.metric_id = m.metric_id
    inner join {{ periods }} as p
        on s.grain = p.grain and s.holds_from <= p.period_start and (s.holds_until is null or p.period_start < s.holds_until)
    left join {{ points }} as v
        on s.series_id = v.series_id and p.period_start = v.period_start
        and s.state not in ('small_group', 'not_measured')
{%- endmacro %}
