{# Schemas are named as CONTRACT.md names them, never prefixed with the target's own. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
