{# What a changed row touches in the support models (see incremental.sql). #}

{% macro changed_tickets() %}
    select ticket_id from ({{ changed_rows('tickets') }}) as changed
    union
    select ticket_id from ({{ changed_rows('ticket_events') }}) as changed
    union
    -- the last update stands for a solve that no event tells of; it too may lie between the two times
    select ticket_id from {{ source('staging', 'tickets') }}
    where updated_at >= timestamptz '{{ run_context().previous_as_of }}' and updated_at < timestamptz '{{ run_context().as_of }}'
{% endmacro %}

{% macro affected__ticket_transitions() %}{{ changed_tickets() }}{% endmacro %}

{% macro affected__fct_tickets() %}{{ changed_tickets() }}{% endmacro %}

{% macro affected__support_scores() %}
    select response_id as source_id from ({{ changed_rows('survey_responses') }}) as changed
    union
    select visit_id from ({{ changed_rows('help_center_visits') }}) as changed
{% endmacro %}

{# open tickets are a snapshot: what changed once changes all that follows #}
{% macro affected__metrics_support() %}
    {{ affected_periods(
        facts=['fct_tickets', 'support_scores'], onward=['ticket_transitions'], series=['series_support'], open_changes=false
    ) }}
{% endmacro %}
