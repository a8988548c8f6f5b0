{# What a changed row touches in the models that judge (see incremental.sql). #}

{# an application whose first registration moves has other due dates #}
{% macro affected__target_periods() %}
    {%- set lags = [] -%}
    {%- for unit in ['hour', 'day', 'week', 'month', 'quarter'] -%}
        {%- for number in range(1, 9) -%}
            {%- do lags.append((number * 3) ~ ' months' if unit == 'quarter' else number ~ ' ' ~ unit) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ affected_periods(upstream=metric_parts(), series=['series_accounts'], lags=lags, open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_targets() %}
    {{ affected_periods(upstream=['target_periods'], series=['series_accounts'], open_changes=false) }}
{% endmacro %}

{% macro affected__experiment_events() %}
    with changed_events as (
        {{ changed_rows('events') }}
    ),

    known_goals as (
        select distinct goal from {{ this }}
        where event_name = 'experiment.exposed'
    ),

    changed_goals as (
        select properties ->> 'goal' as goal from changed_events
        where event_name = 'experiment.exposed'
    ),

    new_goals as (
        select goal from changed_goals
        except
        select goal from known_goals
    )

    select event_id, occurred_at from changed_events
    where event_name = 'experiment.exposed'
        or event_name in (select goal from known_goals)
        or event_name in (select goal from new_goals)
        or event_id in (select event_id from {{ this }})
    union
    select event_id, occurred_at from {{ ref('stg_events') }}
    where event_name in (select goal from new_goals)
{% endmacro %}

{% macro affected__user_paths() %}
    select date_trunc('month', touched_at)::date as month from core.touched where fact = 'fct_sessions'
    union
    -- a renamed event changes a path, not the session
    select date_trunc('month', sessions.started_at)::date
    from {{ ref('fct_sessions') }} as sessions
    inner join ({{ changed_rows('events') }}) as changed
        on sessions.application = changed.application and sessions.session_id = changed.session_id
{% endmacro %}
