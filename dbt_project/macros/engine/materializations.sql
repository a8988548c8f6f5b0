{#
How a table is built: dbt's own materializations ask the database for a table's columns three times for each model and build a context
for each question, a quarter of an hourly run's processor time (docs/decisions.md, D84). Each is one transaction: what stood there stands
until the new rows do.
#}
{% materialization incremental, adapter='postgres' %}
    {{ return(build_table(is_incremental())) }}
{% endmaterialization %}

{% materialization table, adapter='postgres' %}
    {{ return(build_table(load_cached_relation(this) and not should_full_refresh())) }}
{% endmaterialization %}

{# stands: what is there stays, and what differs is written into it. #}
{% macro build_table(stands) %}
    {%- set target = this.incorporate(type='table') -%}
    {%- set by_key = stands and config.get('unique_key') -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% if by_key %}
        {% call statement('main') %}{{ replace_affected(target, sql) }}{% endcall %}
    {% else %}
        {{ replace_rows(target, sql) if stands else build_anew(target, sql) }}
    {% endif %}
    {# apart, since what `main` says last is how many rows the model wrote #}
    {% call statement() %}
        {{ suppress_small_groups(target) }}
        {{ refresh_statistics(target, by_key) }}
    {% endcall %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ return({'relations': [target]}) }}
{% endmacro %}

{# A view takes the place of what stood there and of the views on it, which come after it. #}
{% materialization view, adapter='postgres' %}
    {%- set target = this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main') %}
        {{ drop_standing(load_cached_relation(this)) }}
        create view {{ target }} as (
            {{ sql }}
        )
    {% endcall %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# To drop or rename by the adapter makes a context of all macros for one statement (docs/decisions.md, D260). Told that something is dropped, it
   knows that the views on it go as well. #}
{% macro drop_standing(standing) %}
    {%- if standing %}
    {%- do adapter.cache_dropped(standing) %}
    drop {{ standing.type }} if exists {{ standing }} cascade;
    {%- endif %}
{% endmacro %}

{% macro postgres__reset_csv_table(model, full_refresh, old_relation, agate_table) %}
    {% if not full_refresh %}{{ return(default__reset_csv_table(model, full_refresh, old_relation, agate_table)) }}{% endif %}
    {% call statement() %}{{ drop_standing(old_relation) }}{% endcall %}
    {{ return(create_csv_table(model, agate_table)) }}
{% endmacro %}

{# An hourly run builds no views: a table that views read (metric_values, say) keeps its place, for to drop it drops them. #}
{% macro replace_rows(target, sql) %}
    {%- set new = 'pg_temp.new_' ~ target.identifier -%}
    {% call statement() %}
        drop table if exists {{ new }};
        create temp table new_{{ target.identifier }} as (
            {{ sql }}
        );
        {{ require_contract(new) }}
    {% endcall %}
    {% if columns_of(new) == columns_of(target) %}
        {% call statement('main') %}
            truncate {{ target }};
            insert into {{ target }} table {{ new }}
            {% if config.get('ordered_by') %}order by {{ config.get('ordered_by') | join(', ') }}{% endif %}
        {% endcall %}
    {% else %}
        {# somebody changed the model and builds it by hand #}
        {{ build_anew(target, 'table ' ~ new) }}
    {% endif %}
{% endmacro %}

{# The rows first, under another name, because they may be made of what stands there. #}
{% macro build_anew(target, sql) %}
    {%- set new = make_intermediate_relation(target) -%}
    {%- set standing = load_cached_relation(this) -%}
    {%- set is_handed_over = model.name in run_context().get('handed_over', []) -%}
    {# rows that are looked up together lie together: 57 days of an account were 57 pages, and are two #}
    {%- set order = 'order by ' ~ config.get('ordered_by') | join(', ') if config.get('ordered_by') else '' -%}
    {% if is_handed_over %}
        {# the rows are Spark's (northstar.build.wide), the columns and their types are the model's own #}
        {% call statement() %}
            drop table if exists {{ new }};
            create table {{ new }} as (
                {{ sql }}
            ) with no data
        {% endcall %}
        {%- set columns = columns_of(new) | join(', ') -%}
        {% call statement('main') %}
            insert into {{ new }} ({{ columns }}) select {{ columns }} from core._handed_over__{{ model.name }} {{ order }}
        {% endcall %}
    {% else %}
        {% call statement('main') %}
            drop table if exists {{ new }};
            create table {{ new }} as (
                {{ sql }}
            )
            {{ order }}
        {% endcall %}
    {% endif %}
    {% call statement() %}
        {{ drop_standing(standing) }}
        {{ require_contract(new) }}
        {% for index in config.get('indexes', []) %}
        create {{ 'unique ' if index.unique }}index on {{ new }} ({{ index.columns | join(', ') }}){{ ' where ' ~ index.where if index.where }};
        {% endfor %}
        alter table {{ new }} rename to {{ target.identifier }}
    {% endcall %}
{% endmacro %}

{# dbt's own answer, from what it knows of the database, but looked up once where a model's macros ask for it six times: each time it goes through
   all relations of a schema. #}
{% macro is_incremental() %}
    {%- if not execute or model.config.materialized != 'incremental' -%}{{ return(false) }}{%- endif -%}
    {%- if '_stands' not in model -%}
        {# first what needs no database: Spark's models are compiled without one #}
        {%- set standing = none if should_full_refresh() else load_cached_relation(this) -%}
        {%- do model.update({'_stands': standing is not none and standing.type == 'table'}) -%}
    {%- endif -%}
    {{ return(model._stands) }}
{% endmacro %}

{# The relations that dbt knows: without the logs of changed keys, one for each model, which it would go through as well, and without
   functions and materialized views, of which a schema of models has none. #}
{% macro postgres__list_relations_without_caching(schema_relation) %}
    {% call statement('list_relations', fetch_result=true) %}
        select current_database() as database, relname as name, nspname as schema, case relkind when 'v' then 'view' else 'table' end as type
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = '{{ schema_relation.schema }}' and relkind in ('r', 'p', 'v') and relname not like '\_changed\_\_%'
    {% endcall %}
    {{ return(load_result('list_relations').table) }}
{% endmacro %}

{#
What a mart promises (`contract: {enforced: true}`) is compared with the columns of what was built, within a statement that is made anyway:
dbt's own way asks the database twice for each model and compares before a row is there (docs/decisions.md, D103). Types are told by Postgres's
own names, and one without a modifier (`numeric`) is met by any (`numeric(10,2)`); the order of columns is no promise.
#}
{% macro require_contract(built) %}
    {%- if config.get('contract').enforced %}
    do $contract$
    declare
        breaches text;
    begin
        select string_agg(format('column %s: wanted %s, got %s', name, coalesce(declared_type, 'nothing'), coalesce(actual_type, 'nothing')), '; ' order by name)
        into breaches
        from (
            select
                name,
                -- the name that Postgres has for it, where it knows the type
                case
                    when to_regtype(declared_text) is null then declared_text
                    when declared_text ~ '[)].' then declared_text
                    else format_type(to_regtype(declared_text), null) || coalesce(replace(substring(declared_text from '[(].*'), ' ', ''), '')
                end as declared_type,
                format_type(atttypid, atttypmod) as actual_type,
                format_type(atttypid, null) as actual_type_without_modifier
            from (values
                {%- for column in model.columns.values() %}
                ('{{ column.name | replace("'", "''") }}', '{{ column.data_type | replace("'", "''") }}'){{ ',' if not loop.last }}
                {%- endfor %}
            ) as declared_columns (name, declared_text)
            full join (
                select attname::text as name, atttypid, atttypmod from pg_attribute
                where attrelid = '{{ built }}'::regclass and attnum > 0 and not attisdropped
            ) as built_columns using (name)
        ) as compared
        where declared_type is null or actual_type is null or declared_type not in (actual_type, actual_type_without_modifier);
        if breaches is not null then
            raise exception 'model {{ model.name }} breaks its contract: %', breaches;
        end if;
    end $contract$;
    {%- endif %}
{% endmacro %}
