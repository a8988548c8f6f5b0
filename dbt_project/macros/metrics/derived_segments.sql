{#
Segments that follow from a row by rules of the home (docs/decisions.md, D360, D366): country_group (`country_groups`) from its country, and entity
(`legal_entities`) from its own legal_entity or else from its application and country, so what is split by country has a column legal_entity. Every metric that is split by country is split by them too; a home without the rules has neither, and no other SQL than before.
#}

{# {segment: SQL over the columns of `alias`}. #}
{% macro derived_segments(alias='r') %}
    {%- set derived = {} -%}
    {%- set groups = run_context().rules.get('country_groups') or {} -%}
    {%- if groups -%}
        {%- set branches = [] -%}
        {%- for name, countries in groups | dictsort -%}
            {%- do branches.append('when ' ~ alias ~ '.country in (' ~ quoted(countries | sort) ~ ") then '" ~ name ~ "'") -%}
        {%- endfor -%}
        {%- do derived.update({'country_group': 'case ' ~ branches | join(' ') ~ ' when ' ~ alias ~ ".country is not null then '(other)' end"}) -%}
    {%- endif -%}
    {%- set entities = run_context().rules.get('legal_entities') or [] -%}
    {%- if entities -%}
        {%- set given = alias ~ '.legal_entity' -%}
        {%- set branches = [
            'when ' ~ given ~ ' in (' ~ quoted(entities | map(attribute='id') | sort) ~ ') then ' ~ given, 'when ' ~ given ~ ' is not null then null',
        ] -%}
        {%- for entity in entities -%}
            {%- set conditions = [] -%}
            {%- for column, values in [('application', entity.applications), ('country', entity.countries)] if values -%}
                {%- do conditions.append(alias ~ '.' ~ column ~ ' in (' ~ quoted(values | sort) ~ ')') -%}
            {%- endfor -%}
            {%- do branches.append('when ' ~ (conditions | join(' and ') or 'true') ~ " then '" ~ entity.id ~ "'") -%}
        {%- endfor -%}
        {%- do derived.update({'entity': 'case ' ~ branches | join(' ') ~ ' end'}) -%}
    {%- endif -%}
    {{ return(derived) }}
{% endmacro %}

{# The segments, and those that follow from them. #}
{% macro all_segments(segments) %}
    {{ return(segments + (derived_segments().keys() | list if 'country' in segments else [])) }}
{% endmacro %}

{# A relation with its derived segments as columns. #}
{% macro with_derived(relation, segments) -%}
    {%- set derived = derived_segments('base') if 'country' in segments else {} -%}
    {%- if derived -%}
    (select base.*{% for name, expression in derived.items() %}, {{ expression }} as {{ name }}{% endfor %} from {{ relation }} as base)
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# The catalogue's list of a metric's segments (`plan_tier;country`), with those that follow. #}
{% macro catalogue_segments(column) -%}
    {%- set derived = derived_segments().keys() | list -%}
    {%- if derived -%}
    case when 'country' = any(string_to_array({{ column }}, ';')) then {{ column }} || ';{{ derived | join(';') }}' else {{ column }} end
    {%- else -%}
    {{ column }}
    {%- endif -%}
{%- endmacro %}

{# The legal entities with the currency that each is reported in, once any has one of its own: [{id, currency}]. #}
{% macro entity_currencies() %}
    {%- set found, entities = [], run_context().rules.get('legal_entities') or [] -%}
    {%- if entities | selectattr('currency') | list -%}
        {%- for entity in entities -%}
            {%- do found.append({'id': entity.id, 'currency': entity.currency or rule('reporting_currency')}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}
