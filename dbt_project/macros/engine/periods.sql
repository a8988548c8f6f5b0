{#
Where periods begin. This is the only file that cuts an instant down to its period (D292; tests/dbt_project/test_periods.py forbids it elsewhere):
`date_trunc` has weeks from Monday and years from January, and a home may have others (`first_weekday`, `fiscal_year_begins` of northstar.yml).
The days are those of the session's time zone, which is the company's (`reporting_time_zone`; D295).
#}

{# The start of the period that an instant or a day is in. #}
{% macro start_of(grain, moment) -%}
    {%- set shift = start_shift(grain) -%}
    {%- if shift -%}
        (date_trunc('{{ grain }}', {{ moment }} - interval '{{ shift }}') + interval '{{ shift }}')
    {%- else -%}
        date_trunc('{{ grain }}', {{ moment }})
    {%- endif -%}
{%- endmacro %}

{# The same where a column says which grain. #}
{% macro start_of_each(grain, moment) -%}
    {%- set names = [] -%}
    {%- for name in ('week', 'quarter', 'year') if start_shift(name) -%}{%- do names.append(name) -%}{%- endfor -%}
    {%- if names -%}
        case {{ grain }}{% for name in names %} when '{{ name }}' then {{ start_of(name, moment) }}{% endfor %} else date_trunc({{ grain }}, {{ moment }}) end
    {%- else -%}
        date_trunc({{ grain }}, {{ moment }})
    {%- endif -%}
{%- endmacro %}

{# How much later the home's weeks, quarters or years begin than those of `date_trunc`; empty where they do not. Months count from the first
   of one, so that no month is too short for them. #}
{% macro start_shift(grain) -%}
    {%- if grain == 'week' -%}
        {%- set days = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'].index(rule('first_weekday')) -%}
        {{ days ~ ' days' if days }}
    {%- elif grain in ('quarter', 'year') -%}
        {%- set months = (rule('fiscal_year_begins') | int - 1) % (3 if grain == 'quarter' else 12) -%}
        {{ months ~ ' months' if months }}
    {%- endif -%}
{%- endmacro %}

{# The number of days that have begun from a day's start until an instant: not hours by 24, since a day has 23 or 25 of them where clocks change. #}
{% macro days_begun(day_start, until) -%}
    (({{ until }} - interval '1 microsecond')::date - {{ day_start }}::date + 1)::numeric
{%- endmacro %}

{# How long a period is, where a column says of which grain. #}
{% macro length_of(grain) -%}
    case {{ grain }} when 'quarter' then interval '3 months' else ('1 ' || {{ grain }})::interval end
{%- endmacro %}
