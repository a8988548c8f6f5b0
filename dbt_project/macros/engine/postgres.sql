{# How Postgres says what primitives.sql names. #}

{% macro postgres__json_text(document, name) -%}
    ({{ document }} ->> '{{ name }}')
{%- endmacro %}

{% macro postgres__json_document(text) -%}
    '{{ text }}'::json
{%- endmacro %}

{% macro postgres__instant(text) -%}
    timestamptz '{{ text }}'
{%- endmacro %}

{% macro postgres__by_bytes(column) -%}
    {{ column }} collate "C"
{%- endmacro %}

{% macro postgres__seconds_between(from_instant, to_instant) -%}
    extract(epoch from {{ to_instant }} - {{ from_instant }})
{%- endmacro %}

{% macro postgres__first_value_by(value, by, where) -%}
    (array_agg({{ value }} order by {{ by | join(', ') }}){{ ' filter (where ' ~ where ~ ')' if where }})[1]
{%- endmacro %}

{# A function that open_run makes anew, so that views keep their text from run to run and the planner still sees a literal. #}
{% macro postgres__as_of() -%}
    core.as_of()
{%- endmacro %}

{% macro postgres__is_strict() -%}
    true
{%- endmacro %}

{% macro postgres__is_in_utc() -%}
    current_setting('TimeZone') in ('UTC', 'Etc/UTC')
{%- endmacro %}
