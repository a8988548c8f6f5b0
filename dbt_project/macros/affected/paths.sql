{# What a changed row touches in the models of paths, where it is not derived (incremental/scopes.sql). #}

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
