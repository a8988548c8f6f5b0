{#
What engines say in different words, in the models with the tag `wide`, which run on Postgres and on Spark (docs/scaling.md). A model calls
these and never asks which engine it is on; postgres.sql and spark.sql have an implementation of each, and tests/spark the rows that
both must give.
#}

{# The member of a JSON object that has this name, as text; null where the object has none. #}
{% macro json_text(document, name) -%}
    {{ return(adapter.dispatch('json_text', 'northstar')(document, name)) }}
{%- endmacro %}

{# A JSON document that is written into a model. #}
{% macro json_document(text) -%}
    {{ return(adapter.dispatch('json_document', 'northstar')(text)) }}
{%- endmacro %}

{# An instant that is written into a model, with its distance from UTC. #}
{% macro instant(text) -%}
    {{ return(adapter.dispatch('instant', 'northstar')(text)) }}
{%- endmacro %}

{# A text whose order is that of its bytes, whatever the database's own is. #}
{% macro by_bytes(column) -%}
    {{ return(adapter.dispatch('by_bytes', 'northstar')(column)) }}
{%- endmacro %}

{# Seconds from one instant to another: a decimal with six digits after the point. #}
{% macro seconds_between(from_instant, to_instant) -%}
    {{ return(adapter.dispatch('seconds_between', 'northstar')(from_instant, to_instant)) }}
{%- endmacro %}

{# An aggregate: the value of the row that comes first by the columns `by`, null if it is null there. where: of which rows. #}
{% macro first_value_by(value, by, where=none) -%}
    {{ return(adapter.dispatch('first_value_by', 'northstar')(value, by, where)) }}
{%- endmacro %}

{# The run's logical time, exclusive. #}
{% macro as_of() -%}
    {{ return(adapter.dispatch('as_of', 'northstar')()) }}
{%- endmacro %}

{# Whether what cannot be reckoned (a text that is no number, say) is an error and not a null. #}
{% macro is_strict() -%}
    {{ return(adapter.dispatch('is_strict', 'northstar')()) }}
{%- endmacro %}

{# Whether times are shown and cut in UTC. #}
{% macro is_in_utc() -%}
    {{ return(adapter.dispatch('is_in_utc', 'northstar')()) }}
{%- endmacro %}
