{#
From facts to the points of metrics, in three steps that every metric model shares:

    cube(...)         measures of a fact by period, application and segment
    in_series(...)    the rows of cubes that belong to a series which has begun, and one for each series' first period
    metric_rows(...)  one row for each metric, with numerator, denominator, value and null_reason, where they say something

A period in which nothing happened has no row: what readers see there (nothing, or 0) follows from the series and the metric's kind
(metric_values_of). A model names its facts, its measures and which metrics they make; grains, segments, kind, unit and window come from
the catalogue (seed `metric_catalogue`, through `metric_shapes`).

`cube`, `running_totals` and `metric_rows` leave a comment in the compiled SQL that says what they made of what (`measured`):
from it `northstar explain` finds the rows behind a number.
#}

{#
A note for `northstar explain`: the measures of a relation (a CTE of this model, aliased r in the aggregates). kind: `happened` (rows that happened within the period, by the column `at`), `standing` (differences of a standing total, all until
the period's end, netted by `key`) or `by_period` (rows that have a grain and a period_start of their own). has_totals: the
relation has rows for application 'all' already.
A model that aggregates by hand calls it beside its own SQL.
#}
{% macro measured(relation, measures, segments=[], grains=none, at='happened_at', kind='happened', key=none, has_totals=false) -%}
    {{ explain_note('measures', {
        'relation': relation, 'measures': measures, 'segments': all_segments(segments), 'grains': grains or all_grains(), 'at': at, 'kind': kind,
        'key': key, 'has_totals': has_totals, 'derived': derived_segments() if 'country' in segments else {},
    }) }}
{%- endmacro %}

{% macro explain_note(kind, content) -%}
    /* northstar.{{ kind }} {{ tojson(content) | replace('*/', '* /') }} */
{%- endmacro %}

{% macro all_grains() %}{{ return(['hour', 'day', 'week', 'month', 'quarter', 'year']) }}{% endmacro %}

{% macro grain_starts(column, grains) -%}
    (values {% for grain in grains %}('{{ grain }}', {{ start_of(grain, column) }}){{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# The periods that this build computes. #}
{% macro periods_to_build(grains) -%}
    select grain, period_start, period_end from {{ ref('periods') }}
    where grain in ({{ quoted(grains) }}) and {{ only_affected('grain, period_start') }}
{%- endmacro %}

{# `application` and the segment columns, grouped each on its own and beside the totals. Null segment values are '(unknown)'. #}
{% macro segment_columns(segments) -%}
    case when grouping(r.application) = 1 then 'all' else r.application end as application,
    {% set segments = all_segments(segments) %}
    {% if segments %}
    case {% for segment in segments %}when grouping(r.{{ segment }}) = 0 then '{{ segment }}' {% endfor %}else '' end as segment,
    case {% for segment in segments %}when grouping(r.{{ segment }}) = 0 then coalesce(r.{{ segment }}::text, '(unknown)') {% endfor %}else '' end as segment_value
    {% else %}
    '' as segment,
    '' as segment_value
    {% endif %}
{%- endmacro %}

{% macro segment_sets(segments, by='') -%}
    {%- set prefix = by ~ ', ' if by else '' -%}
    grouping sets (
        ({{ prefix }}r.application), ({{ by }})
        {%- for segment in all_segments(segments) %}, ({{ prefix }}r.application, r.{{ segment }}), ({{ prefix }}r.{{ segment }}){% endfor %}
    )
{%- endmacro %}

{# relation: a CTE with `application`, the time column `at` and the segment columns; measures: {name: aggregate over r}. #}
{% macro cube(relation, measures, segments=[], grains=none, at='happened_at') -%}
    {%- set grains = grains or all_grains() -%}
    {{ measured(relation, measures, segments, grains, at) }}
    {% if not is_incremental() and add_up(measures) -%}
    {{ cube_by_steps(relation, measures, segments, grains, at) }}
    {%- else -%}
    select
        g.grain,
        g.period_start,
        {{ segment_columns(segments) }},
        {% for name, expression in measures.items() %}
        {{ expression }} as {{ name }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ with_derived(relation, segments) }} as r
    {% if is_incremental() %}
    {# a row is placed only in the grains that have a period to build at or after it: few rows count for an hour, and all for a month #}
    inner join (
        select grain, min(period_start) as first_start from affected_{{ model.name }} where grain in ({{ quoted(grains) }}) group by grain
    ) as built_grains on r.{{ at }} >= built_grains.first_start
    cross join lateral (select built_grains.grain, {{ start_of_each('built_grains.grain', 'r.' ~ at) }} as period_start) as g
    {% else %}
    cross join lateral {{ grain_starts('r.' ~ at, grains) }} as g (grain, period_start)
    {% endif %}
    where {{ at_or_after_affected('r.' ~ at, grains=grains) }} and {{ only_affected('g.grain, g.period_start') }}
    group by {{ segment_sets(segments, 'g.grain, g.period_start') }}
    {%- endif %}
{%- endmacro %}

{# Whether a longer period's measures can be made of those of its hours or days: sums, counts, maxima and minima, each one aggregate; distinct
   counts and percentiles cannot. Only where `metric_rows` makes numbers of one type of them. #}
{% macro add_up(measures) -%}
    {%- set others = [] -%}
    {%- for expression in measures.values() -%}
        {%- if not modules.re.match('null::numeric$|(sum|count|max|min)[(](?!distinct )[^()]*[)]( filter [(]where [^()]*[)])?$', expression) -%}
            {%- do others.append(expression) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(model.name.startswith('metrics_') and not others) }}
{%- endmacro %}

{# The cube of a full build: the rows are read once, for the shortest grain, and longer periods are made of the shorter ones' few rows. #}
{% macro cube_by_steps(relation, measures, segments, grains, at) -%}
    {%- set base = 'hour' if 'hour' in grains else 'day' -%}
    select * from (
        with cube_by_{{ base }} as (
            select
                {{ start_of(base, 'r.' ~ at) }} as period_start,
                {{ segment_columns(segments) }},
                {% for name, expression in measures.items() %}
                {{ expression }} as {{ name }}{{ ',' if not loop.last }}
                {% endfor %}
            from {{ with_derived(relation, segments) }} as r
            group by {{ segment_sets(segments, start_of(base, 'r.' ~ at)) }}
        )
        {%- for grain in all_grains() if grain != base and (grain in grains or grain == 'day') %},

        cube_by_{{ grain }} as (
            select
                {{ start_of(grain, 's.period_start') }} as period_start,
                s.application,
                s.segment,
                s.segment_value,
                {% for name, expression in measures.items() %}
                {{ 'null::numeric' if expression == 'null::numeric' else (expression.split('(')[0] | replace('count', 'sum')) ~ '(s.' ~ name ~ ')' }} as {{ name }}{{ ',' if not loop.last }}
                {% endfor %}
            from cube_by_{{ base if grain == 'day' else 'day' }} as s
            group by 1, 2, 3, 4
        )
        {%- endfor %}

        {% for grain in grains %}
        {{ 'union all ' if not loop.first }}select '{{ grain }}' as grain, * from cube_by_{{ grain }}
        {% endfor %}
    ) as cubes
{%- endmacro %}

{# Keeps what can count for the affected periods; on a column as it is stored, so that its index is used. grains: those that the
   model has, if not all: a year is always affected, and to begin with it reads twelve times the rows of a month. #}
{% macro at_or_after_affected(column, before='0 days', grains=none) -%}
    {%- if is_incremental() -%}
        {{ column }} >= (
            select min(period_start) - interval '{{ before }}' from affected_{{ model.name }}
            {{ 'where grain in (' ~ quoted(grains) ~ ')' if grains }}
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# The series of one fact of a domain whose `series_<domain>` model holds those of several. #}
{% macro series_of(fact, relation, segments=[], at='happened_at') -%}
    select '{{ fact }}' as fact, appearances.* from ({{ first_appearances(relation, segments, at) }}) as appearances
{%- endmacro %}

{# The three steps at once, for a fact whose series are those of `fact` in a `series_<domain>` model. #}
{% macro metrics_of(relation, series, fact, measures, segments, grains, metrics, at='happened_at') -%}
    select * from (
        with measured as (
            {{ cube(relation, measures, segments, grains, at) }}
        ),

        begun as (
            select application, segment, segment_value, first_at from {{ series }} where fact = '{{ fact }}'
        ),

        placed as (
            {{ in_series({'measured': measures}, 'begun', grains) }}
        )

        {{ metric_rows('placed', metrics, of=relation) }}
    ) as {{ relation }}_rows
{%- endmacro %}

{# When each application and segment value first appeared in a fact: the body of a `series_<fact>` model. #}
{% macro first_appearances(relation, segments=[], at='happened_at') -%}
    select
        {{ segment_columns(segments) }},
        min(r.{{ at }}) as first_at
    from {{ with_derived(relation, segments) }} as r
    group by {{ segment_sets(segments) }}
    having count(*) > 0
{%- endmacro %}

{# Rows of a fact that can decide when a series begins: from the first touched hour on, for what lies before it stands. #}
{% macro since_touched(facts, column) -%}
    {%- if is_incremental() -%}{{ column }} >= {{ first_touched(facts) }}{%- else -%}true{%- endif -%}
{%- endmacro %}

{% macro first_touched(facts) -%}
    (select min(touched_at) from core.touched where fact in ({{ quoted(facts) }}))
{%- endmacro %}

{# The series that appear in the rows `since_touched`, and those that began earlier: the end of a `series_<fact>` model. #}
{% macro with_earlier_series(touched_series, facts, key=['application', 'segment', 'segment_value']) -%}
    {%- set key = key | join(', ') -%}
    select * from {{ touched_series }}
    {% if is_incremental() %}
    where ({{ key }}) not in (
        select {{ key }} from {{ this }} where first_at < {{ first_touched(facts) }}
    )
    union all
    select {{ key }}, first_at
    from {{ this }}
    where first_at < coalesce({{ first_touched(facts) }}, 'infinity')
    {% endif %}
{%- endmacro %}

{#
The rows of cubes that belong to a series which has begun, side by side by period and series; measures are null where a cube has no row.

cubes: {relation with grain, period_start, application, segment, segment_value: its measures}. series_relation: application, segment,
segment_value, first_at. is_first marks a series' first period, which always has a row (with_first=false: only where a cube has one).
#}
{% macro in_series(cubes, series_relation, grains=none, with_first=true) -%}
    {%- set grains = grains or all_grains() -%}
    {%- set names = cubes.keys() | list -%}
    {%- set key = ['grain', 'period_start', 'application', 'segment', 'segment_value'] -%}
    {%- set is_one = names | length == 1 -%}
    {%- set row = names[0] if is_one else 'k' -%}
    select
        p.grain,
        p.period_start,
        p.period_end,
        s.application,
        s.segment,
        s.segment_value,
        {% for name in names -%}
        {% for measure in cubes[name] %}
        {{ name }}.{{ measure }},
        {% endfor -%}
        {%- endfor %}
        p.period_start <= s.first_at or p.period_start = first_periods.first_start as is_first
    from (
        {% if is_one -%}
        select {{ (key + (cubes[row] | list)) | join(', ') }} from {{ row }}
        {% if with_first %}
        union all
        select first_rows.*{% for measure in cubes[row] %}, null{% endfor %}
        from ({{ first_rows(series_relation, grains) }}) as first_rows
        left join {{ row }} as cube_rows on {{ same_key('first_rows', 'cube_rows', key) }}
        where cube_rows.grain is null
        {% endif %}
        {%- else -%}
        {% for name in names %}
        {{ 'union ' if not loop.first }}select {{ key | join(', ') }} from {{ name }}
        {% endfor %}
        {% if with_first %}
        union
        {{ first_rows(series_relation, grains) }}
        {% endif %}
        {%- endif %}
    ) as {{ row }}
    inner join {{ series_relation }} as s on {{ same_key(row, 's', key[2:]) }}
    inner join ({{ periods_to_build(grains) }}) as p on {{ same_key(row, 'p', key[:2]) }} and p.period_end > s.first_at
    inner join ({{ first_periods(grains) }}) as first_periods on p.grain = first_periods.grain
    {% for name in names if not is_one %}
    left join {{ name }} on {{ same_key(row, name, key) }}
    {% endfor %}
    offset 0
{%- endmacro %}

{% macro same_key(one, other, columns) -%}
    {% for column in columns %}{{ one }}.{{ column }} = {{ other }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{# The key of each series' first period. #}
{% macro first_rows(series_relation, grains) -%}
    select
        f.grain,
        greatest({{ start_of_each('f.grain', 's.first_at') }}, f.first_start) as period_start,
        s.application,
        s.segment,
        s.segment_value
    from {{ series_relation }} as s
    cross join ({{ first_periods(grains) }}) as f
{%- endmacro %}

{# Where the history of each grain begins. #}
{% macro first_periods(grains) -%}
    select grain, min(period_start) as first_start from {{ ref('periods') }} where grain in ({{ quoted(grains) }}) group by grain
{%- endmacro %}

{#
relation: columns grain, period_start, application, segment, segment_value, is_first and measures.
of: the relation whose measures are meant where several have one of the same name.
metrics: {metric_id: [numerator, denominator or none, options]}; options: null_reason (a SQL expression for nulls other than an empty
base), idle_reason (why the value of a period in which nothing happened is null, where that is not an empty base), explained (for columns
that are no measures: {column: an expression over measures, or [expression, period]}, where period is `month_before`,
`year_before`, `last_month` or `last_month_of_year_before`, or `whole`: without the segment).
Money is rounded to the minor unit here and only here (docs/semantics.md, Values).

What is before an `offset 0` is planned on its own and reckoned once: the sizes of what is put together here are guesses.

is_point: the row says more than that nothing happened. Other rows are here for series_state alone, which stands in a series' first period
(`measured`, or the metric's idle_reason).
#}
{% macro metric_rows(relation, metrics, of=none) -%}
    {{ explain_note('metrics', {'of': of, 'metrics': metrics}) }}
    select
        {{ series_id('points.metric_id', 'points.grain', 'points.application', 'points.segment', 'points.segment_value') }} as series_id,
        points.period_start,
        points.metric_id,
        points.grain,
        points.application,
        points.segment,
        points.segment_value,
        points.numerator,
        points.denominator,
        points.value,
        case when points.value is null then points.null_reason end as null_reason,
        points.is_point,
        case when points.is_first then case when points.idle_reason = 'empty_base' then 'measured' else points.idle_reason end end as series_state
    from (
        select
            results.*,
            results.numerator is distinct from case when results.is_zero_filled then 0 end
            or results.denominator != 0
            or (results.value is null and results.null_reason != results.idle_reason) as is_point
        from (
            select
                sides.*,
                case
                    when sides.unit = 'money' then {{ metric_value('sides.kind', 'sides.unit', 'sides.numerator', 'sides.denominator') }}
                    else trim_scale({{ metric_value('sides.kind', 'sides.unit', 'sides.numerator', 'sides.denominator') }})
                end as value
            from (
                select
                    w.period_start,
                    s.shape_metric_id as metric_id,
                    w.grain,
                    w.application,
                    w.segment,
                    w.segment_value,
                    w.is_first,
                    trim_scale(case when s.shape_is_zero_filled then coalesce(operands.numerator, 0) else operands.numerator end) as numerator,
                    case when s.shape_kind in ('ratio', 'mean', 'median', 'percentile') then trim_scale(coalesce(operands.denominator, 0)) end
                        as denominator,
                    coalesce(operands.null_reason, 'empty_base') as null_reason,
                    operands.idle_reason,
                    s.shape_kind as kind,
                    s.shape_unit as unit,
                    s.shape_is_zero_filled as is_zero_filled
                from {{ relation }} as w
                {# by grain and segment first: a row with a segment of one metric is not reckoned for the others. The names are no measure's. #}
                inner join (
                    select
                        metric_id as shape_metric_id,
                        grain as shape_grain,
                        segment as shape_segment,
                        kind as shape_kind,
                        unit as shape_unit,
                        is_zero_filled as shape_is_zero_filled
                    from {{ ref('metric_shapes') }}
                    where metric_id in ({{ quoted(metrics.keys()) }})
                ) as s on w.grain = s.shape_grain and w.segment = s.shape_segment
                cross join lateral (
                    select
                        {{ by_metric(metrics, 0) }} as numerator,
                        {{ by_metric(metrics, 1) }} as denominator,
                        {{ by_metric(metrics, 'null_reason') }} as null_reason,
                        {{ by_metric(metrics, 'idle_reason') }} as idle_reason
                ) as operands
                offset 0
            ) as sides
            offset 0
        ) as results
        offset 0
    ) as points
    where points.is_point or points.is_first
{%- endmacro %}

{# What a metric's specification has in a place, or as an option, as a case over the metrics. #}
{% macro by_metric(metrics, place) -%}
    case s.shape_metric_id
    {%- for metric_id, spec in metrics.items() %}
    {%- set options = spec[2] if spec | length > 2 else {} %}
    {%- if place == 'idle_reason' %} when '{{ metric_id }}' then '{{ options.get('idle_reason', 'empty_base') }}'
    {%- elif place == 'null_reason' %} when '{{ metric_id }}' then ({{ options.get('null_reason', 'null') }})::text
    {%- else %} when '{{ metric_id }}' then ({{ spec[place] if spec[place] is not none else 'null' }})::numeric
    {%- endif %}
    {%- endfor %} end
{%- endmacro %}

{# A series' number: 64 bits of md5 over its key, the same in every warehouse and version. #}
{% macro series_id(metric_id, grain, application, segment, segment_value) -%}
    ('x' || left(md5(row({{ metric_id }}, {{ grain }}, {{ application }}, {{ segment }}, {{ segment_value }})::text), 16))::bit(64)::bigint
{%- endmacro %}

{# sum, count, distinct, snapshot, max: the numerator. median, percentile: the numerator where anything was measured.
   ratio, mean: numerator / denominator, a ratio times 100 for percent. #}
{% macro metric_value(kind, unit, numerator, denominator) -%}
    case
        when {{ kind }} in ('median', 'percentile') then case when {{ denominator }} > 0 then {{ numerator }} end
        when {{ kind }} not in ('ratio', 'mean') then case when {{ unit }} = 'money' then {{ rounded(numerator) }} else {{ numerator }} end
        when {{ unit }} = 'percent' and {{ kind }} = 'ratio' then 100 * {{ numerator }} / nullif({{ denominator }}, 0)
        when {{ unit }} = 'money' then {{ rounded(numerator ~ ' / nullif(' ~ denominator ~ ', 0)') }}
        else {{ numerator }} / nullif({{ denominator }}, 0)
    end
{%- endmacro %}

{% macro metric_key() %}{{ return(['series_id', 'period_start']) }}{% endmacro %}

{# Rows are found by period, and the few that begin a series apart; that the key is unique is the audit's to check and the published
   table's to enforce. #}
{% macro metric_indexes() %}
    {{ return([{'columns': ['period_start', 'grain']}, {'columns': ['series_id'], 'where': 'series_state is not null'}]) }}
{% endmacro %}

{#
Standing totals at each period's end from dated differences: `relation` has happened_at, application, the segments and a
column of differences for each measure. Gives each measure as it stood at the end, and `opening_<measure>`; a period whose totals are
all 0, before and after, has no row (with_first: but for a series' first one, marked is_first).
What happened in periods that are not built opens the next one that is, so an incremental build needs no others.
key: the column of `relation` that names what stands (an account, a ticket), for `northstar explain`.
#}
{% macro running_totals(relation, series, measures, segments, grains, key, with_first=false) -%}
    {%- set differences = {} -%}
    {%- for name in measures -%}{%- do differences.update({name: 'sum(r.' ~ name ~ ')'}) -%}{%- endfor -%}
    {{ measured(relation, differences, segments, grains, kind='standing', key=key) }}
    select
        built.grain,
        built.period_start,
        built.period_end,
        stretches.application,
        stretches.segment,
        stretches.segment_value,
        {% for name in measures %}
        stretches.{{ name }},
        case when stretches.place = stretches.from_place then stretches.opening_{{ name }} else stretches.{{ name }} end
            as opening_{{ name }}{{ ',' if not loop.last or with_first }}
        {% endfor %}
        {% if with_first %}
        stretches.is_first and stretches.place = stretches.from_place as is_first
        {% endif %}
    from (
        with built_periods as (
            select *, row_number() over (partition by grain order by period_start) as place
            from ({{ periods_to_build(grains) }}) as p
        ),

        first_built as (
            select grain, min(period_start) as first_start, max(place) as last_place from built_periods group by grain
        ),

        -- each period's next one that is built, itself or a later one: an incremental build has gaps
        next_built as (
            select
                p.grain,
                p.period_start,
                min(b.period_start) over (partition by p.grain order by p.period_start desc) as built_start
            from {{ ref('periods') }} as p
            left join built_periods as b on p.grain = b.grain and p.period_start = b.period_start
            where p.grain in ({{ quoted(grains) }})
        ),

        clamped as (
            select
                n.grain,
                n.built_start as period_start,
                d.happened_at < n.built_start as is_before,
                d.*
            from {{ relation }} as d
            cross join first_built as f
            inner join next_built as n
                on f.grain = n.grain
                and case when d.happened_at < f.first_start then f.first_start else {{ start_of_each('f.grain', 'd.happened_at') }} end = n.period_start
            where n.built_start is not null
        ),

        differences as (
            select
                r.grain,
                r.period_start,
                {{ segment_columns(segments) }},
                {% for name in measures %}
                sum(r.{{ name }}) as {{ name }},
                sum(r.{{ name }}) filter (where r.is_before) as before_{{ name }}{{ ',' if not loop.last }}
                {% endfor %}
            from {{ with_derived('clamped', segments) }} as r
            group by {{ segment_sets(segments, 'r.grain, r.period_start') }}
        ),

        placed as (
            {{ in_series({'differences': running_columns(measures)}, series, grains, with_first=with_first) }}
        ),

        -- what stands from one change to the next
        changes as (
            select
                placed.grain,
                placed.application,
                placed.segment,
                placed.segment_value,
                placed.is_first,
                b.place as from_place,
                coalesce(lead(b.place) over series_in_time, first_built.last_place + 1) as next_place,
                {% for name in measures %}
                sum(coalesce(placed.{{ name }}, 0)) over series_in_time as {{ name }},
                sum(coalesce(placed.{{ name }}, 0)) over series_in_time - coalesce(placed.{{ name }}, 0) + coalesce(placed.before_{{ name }}, 0)
                    as opening_{{ name }}{{ ',' if not loop.last }}
                {% endfor %}
            from placed
            inner join built_periods as b on placed.grain = b.grain and placed.period_start = b.period_start
            inner join first_built on placed.grain = first_built.grain
            window series_in_time as (
                partition by placed.grain, placed.application, placed.segment, placed.segment_value order by placed.period_start
            )
        )

        select
            changes.*,
            generate_series(
                from_place,
                case when {% for name in measures %}{{ name }} = 0{{ ' and ' if not loop.last }}{% endfor %} then from_place else next_place - 1 end
            ) as place
        from changes
    ) as stretches
    inner join (
        select *, row_number() over (partition by grain order by period_start) as place
        from ({{ periods_to_build(grains) }}) as p
    ) as built on stretches.grain = built.grain and stretches.place = built.place
    where {% for name in measures %}stretches.{{ name }} != 0 or stretches.place = stretches.from_place and stretches.opening_{{ name }} != 0
        {{ 'or ' if not loop.last }}{% endfor %}
        {% if with_first %}or stretches.is_first and stretches.place = stretches.from_place{% endif %}
{%- endmacro %}

{% macro running_columns(measures) -%}
    {%- set columns = [] -%}
    {%- for name in measures -%}{%- do columns.extend([name, 'before_' ~ name]) -%}{%- endfor -%}
    {{ return(columns) }}
{%- endmacro %}
