{#
What a changed row touches, derived from what a model reads (docs/how_models_are_incremental.md).

The columns `affected_by` are the scope of a model. Each input (a landed entity, by the name of its view, or a model that leaves
traces; views and tables that leave none stand for what they are made of; seeds and the calendar change nothing) touches of it:

- by period (`affected_by=['grain', 'period_start']`): the periods of what it touched (`touches`, or an entity's times), the periods that
  changed in it where it is by period itself, and all periods since where it says when series begin;
- else the keys that its changed rows have in the scope's own columns; a column <x>_hour or <x>_on that they do not have is each hour or
  day of an entity's times, or of what a model `touches`.

What names cannot show is declared in the model's config, `scope_of={input: ...}`:

- {column: expression over the changed row, 'where': condition}: a column of another name, or fewer rows; the row is one of the entity, has the
  model's unique_key, or the `touched_at` that the expression asks for;
- {'through': another input, 'on': a column of both, or a condition}: the rows of that input that belong to the changed row; a condition calls them `related` and `changed`;
- a list of those: each of them;
- 'onward', by period: every later period too;
- false: nothing.

A macro affected__<model> (macros/affected/<domain>.sql) takes the place of all that; it may add to `derived_scope()`.
#}

{% macro derived_scope() -%}
    {%- if execute -%}
        {%- if 'period_start' in model.config.affected_by -%}
            {{ affected_periods(
                lags=model.config.get('lags') or [],
                open_changes=model.config.get('open_changes') or false, **period_scope(model)
            ) }}
        {%- else -%}
            {%- set parts = key_scope(model) -%}
            {%- set logs = change_logs(parts | rejectattr('is_by_time') | map(attribute='input') | list) -%}
            {%- for part in parts %}
                {{ 'union ' if not loop.first }}{{ scope_part(part, logs) }}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# Raises where a scope cannot be derived: a full build needs none, and has to find out all the same. #}
{% macro require_scope() -%}
    {%- do period_scope(model) if 'period_start' in model.config.affected_by else key_scope(model) -%}
{%- endmacro %}

{# {name: node} of the landed entities and of the models with traces that a model is made of. #}
{% macro inputs_of(node) %}
    {%- set inputs = {} -%}
    {%- for unique_id in node.depends_on.nodes -%}
        {%- set input = graph.sources.get(unique_id) or graph.nodes[unique_id] -%}
        {%- if input.resource_type == 'source' -%}
            {%- do inputs.update({'stg_' ~ input.name: input}) -%}
        {%- elif input.config.get('unique_key') -%}
            {%- do inputs.update({input.name: input}) -%}
        {%- elif input.resource_type == 'model' and not input.config.get('is_calendar') -%}
            {%- do inputs.update(inputs_of(input)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(inputs) }}
{% endmacro %}

{# What `scope_of` says of each input, in the order of the inputs: [(name, node, what it says or none)]; without those that touch nothing. #}
{% macro scope_inputs(node) %}
    {%- set inputs, rules, scoped_inputs = inputs_of(node), node.config.get('scope_of') or {}, [] -%}
    {%- for name in rules if name not in inputs -%}
        {{ exceptions.raise_compiler_error('model ' ~ node.name ~ ': scope_of names ' ~ name ~ ', which it does not read; it reads ' ~ inputs | join(', ')) }}
    {%- endfor -%}
    {%- for name, input in inputs.items() if rules.get(name) is not sameas false -%}
        {%- do scoped_inputs.append([name, input, rules.get(name)]) -%}
    {%- endfor -%}
    {%- if not scoped_inputs -%}
        {{ exceptions.raise_compiler_error('model ' ~ node.name ~ ' has affected_by and reads nothing that changes') }}
    {%- endif -%}
    {{ return(scoped_inputs) }}
{% endmacro %}

{% macro raise_unknown_scope(node, name, why) %}
    {{ exceptions.raise_compiler_error(
        'model ' ~ node.name ~ ' does not say what a changed row of ' ~ name ~ ' touches: ' ~ why
        ~ '; say it in scope_of, or write the macro affected__' ~ node.name ~ ' (docs/how_models_are_incremental.md)'
    ) }}
{% endmacro %}

{# Of a model by period: what `affected_periods` is to be given. #}
{% macro period_scope(node) %}
    {%- set scope = {'facts': [], 'series': [], 'onward': [], 'upstream': [], 'changed': {}, 'onward_changed': {}} -%}
    {%- for name, input, scope_rule in scope_inputs(node) -%}
        {%- if scope_rule is not none and scope_rule != 'onward' -%}
            {{ raise_unknown_scope(node, name, "a model by period knows 'onward' and false") }}
        {%- elif input.resource_type == 'source' -%}
            {%- do scope['onward_changed' if scope_rule else 'changed'].update({input.name: times_of(input.name)}) -%}
        {%- elif scope_rule -%}
            {%- do scope.onward.append(name) if input.config.get('touches') else raise_unknown_scope(node, name, 'it has no touches') -%}
        {%- elif input.config.get('touches') == ['first_at'] -%}
            {%- do scope.series.append(name) -%}
        {%- elif 'period_start' in as_list(input.config.unique_key) -%}
            {%- do scope.upstream.append(name) -%}
        {%- elif input.config.get('touches') -%}
            {%- do scope.facts.append(name) -%}
        {%- else -%}
            {{ raise_unknown_scope(node, name, 'it has no touches and is not by period') }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(scope) }}
{% endmacro %}

{#
Of any other model: [{input, rule, through, is_by_time, columns: {column: expression over the changed row}, scope: the columns that may not
be null}]. is_by_time: the changed rows have `touched_at`: each time of an entity's row, each hour that a model's rows touched (and no key).
#}
{% macro key_scope(node) %}
    {%- set inputs, parts = inputs_of(node), [] -%}
    {%- for name, input, scope_rule in scope_inputs(node) -%}
        {%- set rules = [scope_rule or {}] if scope_rule is none or scope_rule is mapping else scope_rule -%}
        {%- for rule in rules -%}
            {%- if rule.through and rule.through not in inputs -%}
                {{ raise_unknown_scope(node, name, 'it does not read ' ~ rule.through ~ ', through which it is touched') }}
            {%- elif rule.through == name and rules | length == 1 -%}
                {{ raise_unknown_scope(node, name, 'its rows are found there as they are, and not as they were') }}
            {%- endif -%}
            {%- set columns = scope_columns(node, rule, input, 'touched_at' in rule.values() | join(' ')) -%}
            {%- if none in columns.values() and not rule and input.config.get('touches') -%}
                {%- set columns = scope_columns(node, rule, input, true) -%}
            {%- endif -%}
            {%- if none not in columns.values() -%}
                {%- do parts.append({
                    'input': input, 'rule': rule, 'through': inputs.get(rule.through), 'columns': columns,
                    'is_by_time': 'touched_at' in columns.values() | join(' '), 'scope': node.config.affected_by,
                }) -%}
            {%- elif not rule and input.config.get('affected_by') == node.config.affected_by and not context.get('affected__' ~ name) -%}
                {# its log has no such columns, but it is made by the same ones: what touches it touches this #}
                {%- do parts.extend(key_scope(input)) -%}
            {%- else -%}
                {{ raise_unknown_scope(node, name, 'it has no ' ~ node.config.affected_by | join(', ')
                    ~ ('' if input.resource_type == 'source' else ' in its unique_key')) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(parts) }}
{% endmacro %}

{# {column of the scope: an expression over a changed row of an input, none where names do not tell}, and what a rule adds. #}
{% macro scope_columns(node, rule, input, is_by_time) %}
    {%- set columns = {} -%}
    {%- set is_entity = input.resource_type == 'source' -%}
    {%- set known = input.columns if is_entity else [] if is_by_time else as_list(input.config.unique_key) -%}
    {%- for column in node.config.affected_by -%}
        {%- do columns.update({column:
            'related.' ~ column if rule.through
            else 'changed.' ~ column if column in known
            else start_of('hour', 'changed.touched_at') if column.endswith('_hour') and (is_entity or is_by_time)
            else 'changed.touched_at::date' if column.endswith('_on') and (is_entity or is_by_time)
            else none
        }) -%}
    {%- endfor -%}
    {%- for column, expression in rule.items() if column not in ('through', 'on', 'where') -%}
        {%- do columns.update({column: expression}) -%}
    {%- endfor -%}
    {{ return(columns) }}
{% endmacro %}

{# The names of those models among the inputs that have a log of changed keys: one question for all of them. #}
{% macro change_logs(inputs) %}
    {%- set models = inputs | selectattr('resource_type', 'equalto', 'model') | list -%}
    {%- if not models -%}{{ return([]) }}{%- endif -%}
    {%- set question -%}
        select name from (values
            {%- for node in models %} ('{{ node.name }}', '{{ change_log(node) }}'){{ ',' if not loop.last }}{% endfor -%}
        ) as logs (name, log) where to_regclass(log) is not null
    {%- endset -%}
    {{ return(run_query(question).columns[0].values() | list) }}
{% endmacro %}

{% macro change_log(node) -%}
    {{ return(node.schema ~ '._changed__' ~ node.alias) }}
{%- endmacro %}

{% macro scope_part(part, logs) -%}
    {%- set input, rule = part.input, part.rule -%}
    select distinct * from (
        select
            {% for column, expression in part.columns.items() %}
            {{ expression }} as {{ column }}{{ ',' if not loop.last }}
            {% endfor %}
        from (
            {% if input.resource_type == 'source' and part.is_by_time %}
            select c.*, t.touched_at from ({{ changed_rows(input.name) }}) as c
            cross join lateral (values {% for column in times_of(input.name) %}(c.{{ column }}::timestamptz){{ ', ' if not loop.last }}{% endfor %}) as t (touched_at)
            {% elif input.resource_type == 'source' %}
            {{ changed_rows(input.name) }}
            {% elif part.is_by_time %}
            select touched_at from core.touched where fact = '{{ input.name }}'
            {% elif input.name in logs %}
            select distinct * from {{ change_log(input) }}
            {% else %}
            select * from {{ input.relation_name }} where false
            {% endif %}
        ) as changed
        {% if part.through %}
        inner join {{ part.through.relation_name }} as related
            on {{ rule.on | replace('$rated_by', currencies_of_rate('related.currency')) if ' ' in rule.on else 'related.' ~ rule.on ~ ' = changed.' ~ rule.on }}
        {% endif %}
        {% if rule.where %}
        where {{ rule.where }}
        {% endif %}
    ) as scope
    where {% for column in part.scope %}{{ column }} is not null{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{# For `scope_of`: the rows of an input that a changed exchange rate concerns, those that it converts, with a time on or after the rate's day. #}
{% macro rated_rows(input, at) %}
    {{ return({'through': input, 'on': 'changed.currency in ($rated_by) and ' ~ at ~ ' >= changed.rate_date'}) }}
{% endmacro %}

{# All times of a landed entity: its own, and those that it comes to know later. #}
{% macro times_of(entity) %}
    {%- set times = entity_times()[entity] -%}
    {{ return([times.own] + times.later) }}
{% endmacro %}
