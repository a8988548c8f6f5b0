{#
Whether a row is of an account that is a company of the group (`intercompany_accounts`; docs/decisions.md, D361): an id of an account, or the beginning
of one before a `*`. What they sell each other is no revenue: such rows are in the facts, and in no metric of revenue.
#}
{% macro is_intercompany(account) -%}
    {%- set conditions, ids = [], [] -%}
    {%- for given in run_context().rules.get('intercompany_accounts') or [] -%}
        {%- set text = given | replace("'", "''") -%}
        {%- if given.endswith('*') -%}
            {%- do conditions.append('left(' ~ account ~ ', ' ~ (given | length - 1) ~ ") = '" ~ text[:-1] ~ "'") -%}
        {%- else -%}
            {%- do ids.append(text) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if ids -%}{%- do conditions.append(account ~ ' in (' ~ quoted(ids) ~ ')') -%}{%- endif -%}
    {{ 'coalesce(' ~ conditions | join(' or ') ~ ', false)' if conditions else 'false' }}
{%- endmacro %}
