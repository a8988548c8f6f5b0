{# What a changed row touches in the models of support, where it is not derived (incremental/scopes.sql). #}

{% macro changed_tickets() %}
    {{ derived_scope() }}
    union
    -- the last update stands for a solve that no event tells of; it too may lie between the two times
    select ticket_id from {{ source('staging', 'tickets') }}
    where updated_at >= timestamptz '{{ run_context().previous_as_of }}' and updated_at < timestamptz '{{ run_context().as_of }}'
{% endmacro %}

{% macro affected__ticket_transitions() %}{{ changed_tickets() }}{% endmacro %}

{# its transitions are those of the same tickets: scope_of leaves them out #}
{% macro affected__fct_tickets() %}{{ changed_tickets() }}{% endmacro %}
