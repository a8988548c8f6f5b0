{# Minor units to major units of the same currency: 9900 JPY is 9900, 9900 USD is 99.00, 9900 KWD is 9.900. A product, since a quotient is rounded; of no more digits
   than that has, since what is divided by it later is given as many. #}
{% macro major_units(amount, exponent) -%}
    trim_scale(({{ amount }})::numeric) * power(10::numeric, -coalesce({{ exponent }}, 2))::numeric(20, 16)
{%- endmacro %}

{# The rate to the reporting currency: 1 for itself, null where none is known (the audit stops the publish then). #}
{% macro reporting_rate(currency, rate) -%}
    case when {{ currency }} = '{{ rule("reporting_currency") }}' then 1 else {{ rate }} end
{%- endmacro %}

{# An amount of the reporting currency, rounded to its minor unit: what is published. #}
{% macro rounded(amount) -%}
    round({{ amount }}, {{ run_context().rules.get('money_digits', 2) }})
{%- endmacro %}

{# The currency that landed rates are worth in: the reporting currency, unless the setting names another. #}
{% macro rates_currency() -%}
    {{ return(run_context().rules.get('rates_currency') or rule('reporting_currency')) }}
{%- endmacro %}

{# The currencies whose rate is a part of a row's own rate: the row's, and that of the reporting currency where rates are worth in another. #}
{% macro currencies_of_rate(currency) -%}
    {{ currency }}{% if rates_currency() != rule('reporting_currency') %}, '{{ rule('reporting_currency') }}'{% endif %}
{%- endmacro %}

{# The statuses that have MRR, for a row: past due by the setting, which may also end it (see past_due_days). #}
{% macro counted_statuses() -%}
    ('active'{% if rule('count_past_due') != 'never' %}, 'past_due'{% endif %})
{%- endmacro %}

{# For how many days a subscription has MRR once it is past due; none where that is always or never so. #}
{% macro past_due_days() -%}
    {{ return(none if rule('count_past_due') in ('always', 'never') else rule('count_past_due') | int) }}
{%- endmacro %}
