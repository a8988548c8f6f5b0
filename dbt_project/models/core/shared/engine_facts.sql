-- Grain: fact. What the models with the tag wide take for granted of their engine. A fact that does not hold ends the build.
{{ config(tags=['wide'], materialized='table', time_dependent=false) }}
{% for fact, condition in facts_to_ask().items() %}
select '{{ fact }}' as fact, {{ condition }} as is_true
{{ 'union all' if not loop.last }}
{% endfor %}
