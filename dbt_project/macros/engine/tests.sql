{# The columns together are unique and none of them is null. #}
{% test unique_key(model, columns) %}
    select {{ columns | join(', ') }}, count(*) as copies
    from {{ model }}
    where {{ rows_to_test(model, columns) }}
    group by {{ columns | join(', ') }}
    having count(*) > 1 {% for column in columns %} or {{ column }} is null{% endfor %}
{% endtest %}

{# A condition that keeps the rows a test has to look at: within an hourly run those that it may have changed, otherwise all. #}
{% macro rows_to_test(model, columns) -%}
    {%- if not execute or run_context().is_full or not has_change_log(model) or not is_run_under_way() -%}{{ return('true') }}{%- endif -%}
    {%- set log = api.Relation.create(schema=model.schema, identifier='_changed__' ~ model.identifier) -%}
    {%- set known = columns_of(log) | select('in', columns) | join(', ') -%}
    {{ return('(' ~ known ~ ') in (select ' ~ known ~ ' from ' ~ log ~ ')' if known else 'true') }}
{%- endmacro %}
