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

{% macro affected__path_days() %}
    select distinct touched_at::date as day from core.touched where fact = 'fct_sessions'
    union
    -- a renamed event changes a path, not the session
    select sessions.started_at::date
    from (select distinct application, session_id from ({{ changed_rows('events') }}) as events) as changed
    cross join lateral (
        select started_at from {{ ref('fct_sessions') }} as s
        where s.application = changed.application and s.session_id = changed.session_id
        offset 0
    ) as sessions
{% endmacro %}

{% macro affected__user_paths() %}
    {{ changed_keys('path_days', "date_trunc('month', day::timestamp)::date as month") }}
{% endmacro %}
