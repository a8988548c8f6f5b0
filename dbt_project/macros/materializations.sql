{#
How a table is built: dbt's own materializations ask the database for a table's columns three times for each model and build a context
for each question, a quarter of an hourly run's processor time (docs/decisions.md). Both are one transaction: what stood there stands
until the new rows do.
#}
{% materialization incremental, adapter='postgres' %}
    {%- set target = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% if is_incremental() %}
        {% call statement('main') %}{{ replace_affected(target, sql) }}{% endcall %}
    {% else %}
        {{ build_anew(target, sql) }}
    {% endif %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{% materialization table, adapter='postgres' %}
    {%- set target = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% if not load_cached_relation(this) or should_full_refresh() %}
        {{ build_anew(target, sql) }}
    {% elif config.get('unique_key') %}
        {% call statement('main') %}{{ replace_affected(target, sql) }}{% endcall %}
    {% else %}
        {{ replace_rows(target, sql) }}
    {% endif %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# An hourly run builds no views: a table that views read (metric_values, say) keeps its place, for to drop it drops them. #}
{% macro replace_rows(target, sql) %}
    {%- set new = 'pg_temp.new_' ~ target.identifier -%}
    {% call statement() %}
        drop table if exists {{ new }};
        create temp table new_{{ target.identifier }} as (
            {{ sql }}
        )
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
    {% call statement('main') %}
        drop table if exists {{ new }};
        create table {{ new }} as (
            {{ sql }}
        )
        {% if config.get('ordered_by') %}
        {# rows that are looked up together lie together: 57 days of an account were 57 pages, and are two #}
        order by {{ config.get('ordered_by') | join(', ') }}
        {% endif %}
    {% endcall %}
    {% if standing %}
        {# the adapter's own way: it knows then that the views on it went as well #}
        {% do adapter.drop_relation(standing) %}
    {% endif %}
    {% call statement() %}
        {% for index in config.get('indexes', []) %}
        create {{ 'unique ' if index.unique }}index on {{ new }} ({{ index.columns | join(', ') }}){{ ' where ' ~ index.where if index.where }};
        {% endfor %}
        alter table {{ new }} rename to {{ target.identifier }}
    {% endcall %}
{% endmacro %}
