{# Minor units to major units of the same currency: 9900 JPY is 9900, 9900 USD is 99.00, 9900 KWD is 9.900. A product, since a quotient is rounded; of no more digits
   than that has, since what is divided by it later is given as many. #}
{% macro major_units(amount, exponent) -%}
    trim_scale(({{ amount }})::numeric) * power(10::numeric, -coalesce({{ exponent }}, 2))::numeric(20, 16)
{%- endmacro %}

{# The rate to the reporting currency: 1 for itself, null where none is known (the audit stops the publish then). #}
{% macro reporting_rate(currency, rate) -%}
    case when {{ currency }} = '{{ rule("reporting_currency") }}' then 1 else {{ rate }} end
{%- endmacro %}
