{#
How a build costs what changed.

Every large model is `incremental`:

1. Before the model runs, `find_affected` makes the temp table `affected_<model>`: the scope (accounts, charges, hours, periods, ...) that
   rows changed since the last publication can touch. It is derived from what the model reads (scopes.sql), or written by hand in a
   macro `affected__<model>` (macros/affected).
2. The model computes its rows for that scope alone (`only_affected`).
3. `replace_affected` compares them with what stands there for the scope. Only rows that differ are written, and they leave a trace:
   - `core.touched`: the hours of the model's `touches` columns, old and new, which decide the periods to recompute downstream
     (a row that differs in `quiet` columns alone touches no period: no model by period reads them);
   - `core.touched_periods`: for models by period, the periods in which a value changed;
   - `_changed__<model>`: the keys, which decide affected keys downstream and what publishing has to merge.
   The traces are kept until a version is published, so that a failed run loses nothing.

A model that says `time_dependent=false` has the same rows at any as_of as long as what it reads stands: an hourly run leaves it where
none of its entities changed (northstar.build.unchanged). In a second run at the same as_of this holds for all models but those that say
`is_about_run=true`.

A small model with a `unique_key` may be a `table`: it is computed whole, and 3. holds for it as well.
A full run (`--full-refresh`) takes none of these paths; a test shows that both end in the same rows.
#}

{% macro find_affected() %}
    {%- set definition = context.get('affected__' ~ model.name) -%}
    {%- if not execute -%}
        {# while parsing: what the definition refers to is a dependency of the model #}
        {%- if definition -%}{%- do definition() -%}{%- endif -%}
    {%- else -%}
        {%- if is_incremental() -%}
            -- what changed is little, and in memory
            set local random_page_cost = 0.2;
            {% if model.config.get('affected_by') -%}
                drop table if exists pg_temp.affected_{{ model.name }};
                create temp table affected_{{ model.name }} as {{ definition() if definition else derived_scope() }};
                analyze affected_{{ model.name }};
            {%- endif -%}
        {%- elif model.config.materialized == 'incremental' -%}
            -- what is built anew has no changed rows, and perhaps another key than the log knows
            drop table if exists {{ this.schema }}._changed__{{ this.identifier }};
            {%- if model.config.get('affected_by') and not definition -%}{%- do require_scope() -%}{%- endif -%}
        {% endif -%}
        {%- if model.config.materialized != 'view' and (
            model.name.startswith('metrics_') or model.name.endswith('_by_period') or model.name == 'target_periods'
        ) -%}
            {# the sizes of grouped CTEs are guesses: one bad nested loop turned 5 s into 500 s #}
            set local enable_nestloop = off;
            {# nor a merge join on the grain alone, which is one in disguise: 1.5 s became more than 500 s on three years of history #}
            set local enable_mergejoin = off;
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{# Fresh tables have no statistics, and the next model plans with them; a tenth of new rows does not change the plans. #}
{% macro refresh_statistics(target, has_traces) %}
    {%- if has_traces %}
    do $$ begin
        if ((select count(*) from pg_temp.removed_{{ target.identifier }}) + (select count(*) from pg_temp.added_{{ target.identifier }})) * 10
            >= (select reltuples from pg_class where oid = '{{ target }}'::regclass)
        then analyze {{ target }}; end if;
    end $$
    {%- else %}
    analyze {{ target }}
    {%- endif %}
{% endmacro %}

{# A condition that keeps the affected scope in an incremental build and everything otherwise. #}
{% macro only_affected(columns, name=none) -%}
    {%- if is_incremental() -%}
        ({{ columns }}) in (select {{ model.config.get('affected_by') | join(', ') }} from affected_{{ name or model.name }})
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# The rows of a relation that an incremental build has to look at, otherwise all of them: an expression for FROM. Each key is looked
   up through the relation's index; left to itself the planner reads the whole table once a few hundred keys are asked for. #}
{% macro rows_of_affected(relation, columns) -%}
    {%- if is_incremental() -%}{{ rows_in_scope(relation, columns, 'affected_' ~ model.name) }}{%- else -%}{{ relation }}{%- endif -%}
{%- endmacro %}

{% macro rows_in_scope(relation, columns, scope) -%}
    {%- if not columns -%}{{ return(relation) }}{%- endif -%}
    (
        select matches.* from (select distinct {{ columns | join(', ') }} from {{ scope }}) as keys
        cross join lateral (
            select * from {{ relation }} as r
            where {% for column in columns %}r.{{ column }} = keys.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
            offset 0
        ) as matches
    )
{%- endmacro %}

{# Columns of a relation as it stands. #}
{% macro columns_of(relation) -%}
    {{ return(run_query("select attname as name from pg_attribute where attrelid = '" ~ relation ~ "'::regclass and attnum > 0 "
                        ~ "and not attisdropped order by attnum").columns[0].values()) }}
{%- endmacro %}

{# The rows that a model has for its affected scope are compared with those that stand there; both have the columns of one definition. #}
{% macro replace_affected(target, sql) %}
    {%- set name = target.identifier -%}
    {%- set key = as_list(config.get('unique_key')) -%}
    {%- set existing_rows = rows_in_scope(target, config.get('affected_by', []), 'affected_' ~ name) -%}
    {%- set quiet = config.get('quiet', []) -%}
    {%- set differences = '(table pg_temp.removed_' ~ name ~ ' union all table pg_temp.added_' ~ name ~ ') as differences' -%}
    drop table if exists pg_temp.new_{{ name }}, pg_temp.removed_{{ name }}, pg_temp.added_{{ name }};
    create temp table new_{{ name }} as (
        {{ sql }}
    );
    {{ require_contract('pg_temp.new_' ~ name) }}
    set local enable_nestloop = on;
    create temp table removed_{{ name }} as select * from {{ existing_rows }} as existing_rows except table new_{{ name }};
    create temp table added_{{ name }} as table new_{{ name }} except select * from {{ existing_rows }} as existing_rows;

    {% if quiet and config.get('touches') %}
        {%- set other_columns = columns_of(target) | reject('in', quiet) | join(', ') -%}
        {# a row that differs in quiet columns alone is here twice, as it was and as it is #}
        {%- set touching_rows = '(select ' ~ other_columns ~ ' from ' ~ differences ~ ' group by ' ~ other_columns ~ ' having count(*) = 1) as touching_rows' -%}
    {%- else -%}
        {%- set touching_rows = differences -%}
    {%- endif -%}
    {% for column in config.get('touches', []) %}
    insert into core.touched (fact, touched_at)
    select distinct '{{ name }}', {{ start_of('hour', column ~ '::timestamptz') }} from {{ touching_rows }} where {{ column }} is not null;
    {% endfor %}
    {% if 'period_start' in key %}
    insert into core.touched_periods (model, grain, period_start)
    select distinct '{{ name }}', grain, period_start from {{ differences }};
    {% endif %}
    create table if not exists {{ target.schema }}._changed__{{ name }} as select {{ key | join(', ') }} from {{ target }} where false;
    insert into {{ target.schema }}._changed__{{ name }} select distinct {{ key | join(', ') }} from {{ differences }};
    -- publishing joins on it, and without statistics looks up every key on its own
    analyze {{ target.schema }}._changed__{{ name }};

    delete from {{ target }} as existing_rows using pg_temp.removed_{{ name }} as removed_rows
    where {% for column in key %}existing_rows.{{ column }} = removed_rows.{{ column }}{{ ' and ' if not loop.last }}{% endfor %};
    insert into {{ target }} table pg_temp.added_{{ name }}
{% endmacro %}

{# Rows of a landed entity that changed since the last publication, in their old and their new form:
   landed since, replaced since, or come into existence (or come to know a later time) as as_of moved on; in a backfill also those
   with a time in the range that is built again. #}
{% macro changed_rows(entity) -%}
    {%- set context = run_context() -%}
    {%- set relation = source('staging', entity) -%}
    select * from {{ relation }} where _batch_id > {{ context.since_batch_id }}
    union all
    select * from {{ relation }}
    where _batch_id <= {{ context.since_batch_id }} and (
        {% for column in times_of(entity) %}
        {{ 'or ' if not loop.first }}({{ column }} >= timestamptz '{{ context.previous_as_of }}' and {{ column }} < timestamptz '{{ context.as_of }}')
        {% if context.restate_from %}
        or ({{ column }} >= timestamptz '{{ context.restate_from }}' and {{ column }} < timestamptz '{{ context.restate_to }}')
        {% endif %}
        {% endfor %}
        {% if entity == 'subscriptions' and past_due_days() %}
        -- it stops counting without a row that says so
        or (status = 'past_due' and valid_from >= timestamptz '{{ context.previous_as_of }}' - interval '{{ past_due_days() }} days'
            and valid_from < timestamptz '{{ context.as_of }}' - interval '{{ past_due_days() }} days')
        {% endif %}
    )
    union all
    select old.* from staging._replaced as r, jsonb_populate_record(null::{{ relation }}, r.row) as old
    where r.entity = '{{ entity }}' and r.batch_id > {{ context.since_batch_id }}
{%- endmacro %}

{# The hours that changed rows of a landed entity touch. #}
{% macro changed_hours(entity, columns) -%}
    select distinct {{ start_of('hour', 't.touched_at::timestamptz') }} as touched_at
    from ({{ changed_rows(entity) }}) as c
    cross join lateral (values {% for column in columns %}(c.{{ column }}::timestamptz){{ ', ' if not loop.last }}{% endfor %}) as t (touched_at)
    where t.touched_at is not null
{%- endmacro %}

{# The keys of an upstream model whose rows changed since the last publication; no rows where it was never built incrementally. #}
{% macro changed_keys(model_name, columns) -%}
    {%- set upstream = ref(model_name) -%}
    {%- if has_change_log(upstream) -%}
    select distinct {{ columns }} from {{ upstream.schema }}._changed__{{ model_name }}
    {%- else -%}
    select {{ columns }} from {{ upstream }} where false
    {%- endif -%}
{%- endmacro %}

{% macro has_change_log(relation) -%}
    {%- if not execute -%}{{ return(false) }}{%- endif -%}
    {{ return(run_query("select to_regclass('" ~ relation.schema ~ "._changed__" ~ relation.identifier ~ "') is not null as has_log").rows[0]['has_log']) }}
{%- endmacro %}

{#
The periods that a model by period must recompute.

facts: models whose touched hours decide; series: models of first appearances, whose changes touch all periods from there on;
onward: facts for which a touched hour changes every later period too (snapshots); changed, onward_changed: the same for
small entities that no core model copies, {entity: its time columns}; touched: queries that give further touched_at; windows:
days of the cohort windows, whose ends make periods complete; upstream: models by period whose changed periods touch the same period here; lags: intervals
after which a changed upstream or fact period is compared with a later one; open_changes: whether a period that was open
and still is changes even when nothing touched it.
New periods and those that ended since the last publication are always among them.
#}
{% macro affected_periods(
    facts=[], series=[], onward=[], changed={}, onward_changed={}, touched=[], windows=[], upstream=[], lags=[], open_changes=true
) -%}
    {%- set context = run_context() -%}
    with touched as (
        select distinct g.grain, g.period_start
        from (
            select touched_at from core.touched where fact in ({{ quoted(facts) }})
            {% for entity, columns in changed.items() %} union {{ changed_hours(entity, columns) }} {% endfor %}
            {% for query in touched %} union {{ query }} {% endfor %}
        ) as t
        cross join lateral (values
            ('hour', {{ start_of('hour', 'touched_at') }}), ('day', {{ start_of('day', 'touched_at') }}),
            ('week', {{ start_of('week', 'touched_at') }}), ('month', {{ start_of('month', 'touched_at') }}),
            ('quarter', {{ start_of('quarter', 'touched_at') }}), ('year', {{ start_of('year', 'touched_at') }})
        ) as g (grain, period_start)
        union
        select grain, period_start from core.touched_periods where model in ({{ quoted(upstream) }})
    ),
    onward as (
        select min(touched_at) as touched_from
        from (
            select touched_at from core.touched where fact in ({{ quoted(onward + series) }})
            {% for entity, columns in onward_changed.items() %} union all {{ changed_hours(entity, columns) }} {% endfor %}
        ) as t
    )
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where p.period_end > timestamptz '{{ context.previous_as_of }}'
    {% if not open_changes %}
        and (p.period_end <= timestamptz '{{ context.as_of }}' or p.period_start >= timestamptz '{{ context.previous_as_of }}')
    {% endif %}
    {% if context.restate_from %}
    union
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where p.period_end > timestamptz '{{ context.restate_from }}' and p.period_start < timestamptz '{{ context.restate_to }}'
    {% endif %}
    {% for window in windows %}
    union
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where p.period_end > timestamptz '{{ context.previous_as_of }}' - interval '{{ window }} days'
        and p.period_end <= timestamptz '{{ context.as_of }}' - interval '{{ window }} days'
    {% endfor %}
    union
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where p.period_end > (select touched_from from onward)
    union
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where (p.grain, p.period_start) in (select grain, period_start from touched)
    {% for lag in lags %}
    union
    select p.grain, p.period_start
    from {{ ref('periods') }} as p
    where (p.grain, p.period_start - interval '{{ lag }}') in (select grain, period_start from touched)
    {% endfor %}
{%- endmacro %}

{% macro quoted(names) -%}
    {%- for name in names %}'{{ name }}'{{ ', ' if not loop.last }}{% else %}null{% endfor -%}
{%- endmacro %}

{% macro as_list(columns) -%}
    {{ return([columns] if columns is string else columns) }}
{%- endmacro %}
