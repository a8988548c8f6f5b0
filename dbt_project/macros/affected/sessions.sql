{# What a changed row touches in the models of sessions, where it is not derived (incremental/scopes.sql). #}

{% macro affected__fct_sessions() %}
    select application, session_id, min(occurred_at) as first_at, max(occurred_at) as last_at
    from ({{ changed_rows('events') }}) as changed
    where session_id is not null
    group by application, session_id
{% endmacro %}
