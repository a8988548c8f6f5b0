{#
Metrics that are made of other metrics (metrics.yml): the parts' rows, and the parts side by side by period and series.

A part is {metric, column (what stands for it: numerator, denominator, value), formula (the same over numerator and denominator, for
`northstar explain`), before ('', previous or year_before), is_counted (0 where it has no row, and not null)}.
#}

{# The rows of a metric model that parts are made of: of the periods that this build computes or that those are compared with, and of each series' first period. #}
{% macro rows_of_metrics(model_name, metrics) -%}
    select metric_id, grain, period_start, application, segment, segment_value, numerator, denominator, value, is_point, series_state
    from {{ ref(model_name) }}
    where metric_id in ({{ quoted(metrics) }})
        {% if is_incremental() %}
        and (series_state is not null or (grain, period_start) in (
            select affected.grain, earlier.period_start
            from affected_{{ model.name }} as affected
            cross join lateral (values
                (affected.period_start),
                (affected.period_start - {{ length_of('affected.grain') }}),
                (affected.period_start - interval '12 months')
            ) as earlier (period_start)
        ))
        {% endif %}
{%- endmacro %}

{# How much earlier a part's period is. #}
{% macro length_before(before, grain) -%}
    {%- if before == 'year_before' -%} interval '12 months' {%- else -%} {{ length_of(grain) }} {%- endif -%}
{%- endmacro %}

{#
relation: rows_of_metrics of all parts. A column for each part; a row where any part has one, and for each series' first period (is_first).
A series begins when the first of its parts does. A part of an earlier period is null before the part's own series begins.
#}
{% macro side_by_side(relation, parts, segments, grains) -%}
    {%- set metrics = parts.values() | map(attribute='metric') | unique | list -%}
    {%- set befores = parts.values() | map(attribute='before') | select | unique | list -%}
    {%- set key = ['grain', 'application', 'segment', 'segment_value'] -%}
    {%- set condition = 'r.metric_id in (' ~ quoted(metrics) ~ ') and r.grain in (' ~ quoted(grains) ~ ') and r.segment in (' ~ quoted([''] + all_segments(segments)) ~ ')' -%}
    select
        periods.grain,
        periods.period_start,
        periods.period_end,
        begun.application,
        begun.segment,
        begun.segment_value,
        {% for name, part in parts.items() %}
        {% if part.is_counted and part.before -%}
        case
            when periods.period_start - {{ length_before(part.before, 'periods.grain') }} >= begun.{{ name }}_from then coalesce(cells.{{ name }}, 0)
        end as {{ name }},
        {%- elif part.is_counted -%}
        coalesce(cells.{{ name }}, 0) as {{ name }},
        {%- else -%}
        cells.{{ name }},
        {%- endif %}
        {% endfor %}
        periods.period_start = begun.first_start as is_first
    from (
        select
            r.grain,
            r.application,
            r.segment,
            r.segment_value,
            {% for name, part in parts.items() if part.before and part.is_counted %}
            min(r.period_start) filter (where r.metric_id = '{{ part.metric }}') as {{ name }}_from,
            {% endfor %}
            min(r.period_start) as first_start
        from {{ relation }} as r
        where r.series_state is not null and {{ condition }}
        group by 1, 2, 3, 4
    ) as begun
    inner join ({{ periods_to_build(grains) }}) as periods
        on begun.grain = periods.grain and periods.period_start >= begun.first_start
    left join (
        select
            r.grain,
            shifted.period_start,
            r.application,
            r.segment,
            r.segment_value,
            {% for name, part in parts.items() %}
            max(r.{{ part.column }}) filter (where r.metric_id = '{{ part.metric }}' and shifted.before = '{{ part.before }}') as {{ name }}{{ ',' if not loop.last }}
            {% endfor %}
        from {{ relation }} as r
        cross join lateral (values
            ('', r.period_start)
            {%- for before in befores %},
            ('{{ before }}', r.period_start + {{ length_before(before, 'r.grain') }})
            {%- endfor %}
        ) as shifted (before, period_start)
        where r.is_point and {{ condition }}
        group by 1, 2, 3, 4, 5
    ) as cells
        on {{ same_key('begun', 'cells', key) }} and periods.period_start = cells.period_start
    where cells.period_start is not null or periods.period_start = begun.first_start
    offset 0
{%- endmacro %}
