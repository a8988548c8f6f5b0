{# How Spark says what primitives.sql names. #}

{% macro spark__json_text(document, name) -%}
    get_json_object({{ document }}, '$.{{ name }}')
{%- endmacro %}

{# without the prefix, a backslash in a text would escape what follows #}
{% macro spark__json_document(text) -%}
    r'{{ text }}'
{%- endmacro %}

{% macro spark__instant(text) -%}
    timestamp '{{ text }}'
{%- endmacro %}

{% macro spark__by_bytes(column) -%}
    {{ column }}
{%- endmacro %}

{# a quotient of whole numbers would be a double #}
{% macro spark__seconds_between(from_instant, to_instant) -%}
    cast((unix_micros({{ to_instant }}) - unix_micros({{ from_instant }})) * 0.000001bd as decimal(26, 6))
{%- endmacro %}

{% macro spark__first_value_by(value, by, where) -%}
    min_by({{ value }}, struct({{ by | join(', ') }})){{ ' filter (where ' ~ where ~ ')' if where }}
{%- endmacro %}

{% macro spark__as_of() -%}
    timestamp '{{ run_context().as_of }}'
{%- endmacro %}

{# only without the ANSI rules has a list that is not there a size, -1 #}
{% macro spark__is_strict() -%}
    (size(cast(null as array<int>)) is null)
{%- endmacro %}

{# of the session, and of the JVM #}
{% macro spark__is_in_utc() -%}
    (current_timezone() = 'UTC' and java_method('java.time.ZoneId', 'systemDefault') = 'UTC')
{%- endmacro %}
