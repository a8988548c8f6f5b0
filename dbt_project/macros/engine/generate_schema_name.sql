{# Schemas are named as docs/contract.md names them, never prefixed with the target's own. A reader's target sees the published marts;
   on Spark there is one schema, that of a session's views, and a preview
   has one for all that it builds. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if target.name == 'marts' and custom_schema_name == 'marts_candidate' -%}
        marts
    {%- elif target.type == 'spark' or target.name == 'preview' -%}
        {{ target.schema }}
    {%- else -%}
        {{ custom_schema_name or target.schema }}
    {%- endif -%}
{%- endmacro %}
