{# What a changed row touches in the session, event and conversation models (see incremental.sql). #}

{% macro affected__event_hours() %}
    select distinct date_trunc('hour', occurred_at) as event_hour from ({{ changed_rows('events') }}) as changed
{% endmacro %}

{% macro affected__fct_sessions() %}
    select application, session_id, min(occurred_at) as first_at, max(occurred_at) as last_at
    from ({{ changed_rows('events') }}) as changed
    where session_id is not null
    group by application, session_id
{% endmacro %}

{% macro affected__message_hours() %}
    select distinct date_trunc('hour', sent_at) as message_hour from ({{ changed_rows('messages') }}) as changed
{% endmacro %}

{% macro affected__metrics_sessions() %}
    {{ affected_periods(facts=['fct_sessions', 'message_hours'], series=['series_sessions'], open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_events() %}
    {{ affected_periods(facts=['event_hours'], series=['series_events'], open_changes=false) }}
{% endmacro %}

{% macro affected__conversations() %}
    select distinct conversation_id from ({{ changed_rows('conversations') }}) as changed
{% endmacro %}

{% macro affected__metrics_conversations() %}
    {{ affected_periods(facts=['conversations'], series=['series_conversations'], open_changes=false) }}
{% endmacro %}
