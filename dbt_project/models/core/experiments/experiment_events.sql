-- Grain: event_id. Exposures to experiments, and the events that are an experiment's goal, with their visitor: the account, else
-- the account that next carries the same anonymous_id, else the anonymous_id.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['event_id', 'visitor_id'],
    affected_by=['event_id'], touches=['occurred_at'], indexes=[{'columns': ['event_id'], 'unique': true}, {'columns': ['visitor_id']}]
) }}

with events as (
    {{ events_in_hours(start_of('hour', 'occurred_at')) }}
),

goals as (
    select properties ->> 'goal' as goal from events
    where event_name = 'experiment.exposed' and properties ->> 'experiment' is not null
    {% if is_incremental() %}
    union
    select goal from {{ this }}
    where event_name = 'experiment.exposed'
    {% endif %}
),

chosen as (
    select
        event_id,
        event_name,
        occurred_at,
        application,
        account_id,
        anonymous_id,
        case when event_name = 'experiment.exposed' then left(properties ->> 'experiment', 100) end as experiment,
        case when event_name = 'experiment.exposed' then left(coalesce(properties ->> 'variant', '(unknown)'), 100) end as variant,
        case when event_name = 'experiment.exposed' then properties ->> 'goal' end as goal
    from events
    where coalesce(account_id, anonymous_id) is not null
        and {{ only_affected('event_id') }}
        and case when event_name = 'experiment.exposed' then properties ->> 'experiment' is not null
            else event_name in (select goal from goals) end
)

{{ with_visitors('chosen') }}
