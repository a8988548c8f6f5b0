{# What a changed row touches in the models of payments, where it is not derived (incremental/scopes.sql). #}

{% macro affected__fct_payments() %}
    {{ derived_scope() }}
    union
    -- the attempts of one payment are numbered together
    {{ attempts_of("select coalesce(payment_id, charge_id) as payment_id from (" ~ changed_rows('charges') ~ ") as changed", source('staging', 'charges')) }}
{% endmacro %}

{# The charges that are attempts of some payments, each way through an index: a payment without an id of its own has its first charge's. #}
{% macro attempts_of(payments, charges) -%}
    select charge_id from {{ charges }} where payment_id in ({{ payments }})
    union
    select charge_id from {{ charges }} where charge_id in ({{ payments }}) and payment_id is null
{%- endmacro %}
