{# What a changed row touches in the models of experiments, where it is not derived (incremental/scopes.sql). #}

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
        or (select true from {{ this }} as t where t.event_id = changed_events.event_id)
    union
    select event_id, occurred_at from {{ ref('stg_events') }}
    where event_name in (select goal from new_goals)
    union
    select event_id, occurred_at from {{ this }}
    where account_id is null and anonymous_id in ({{ changed_keys('identity_links', 'anonymous_id') }})
{% endmacro %}
