{# Schemas are named as CONTRACT.md names them, never prefixed with the target's own. A reader's target sees the published marts. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if target.name == 'marts' and custom_schema_name == 'marts_candidate' -%}
        marts
    {%- else -%}
        {{ custom_schema_name or target.schema }}
    {%- endif -%}
{%- endmacro %}
