{# What a changed row touches in the satisfaction models (see incremental.sql). #}

{% macro affected__surveys() %}
    select response_id from ({{ changed_rows('survey_responses') }}) as changed
    union
    select responses.response_id
    from {{ source('staging', 'survey_responses') }} as responses
    inner join ({{ changed_rows('tickets') }}) as changed on responses.ticket_id = changed.ticket_id
{% endmacro %}

{% macro affected__metrics_satisfaction() %}
    {{ affected_periods(facts=['surveys'], series=['series_satisfaction'], open_changes=false) }}
{% endmacro %}
