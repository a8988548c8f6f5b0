-- Grain: experiment, application, visitor_id. Exposed visitors: the variant that each saw first, when, and whether it reached the goal from then on.
-- Application 'all' is the company, where a visitor of several applications is exposed once.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['experiment', 'application', 'visitor_id'],
    affected_by=['visitor_id'], indexes=[{'columns': ['visitor_id']}]
) }}

with events as (
    select * from {{ rows_of_affected(ref('experiment_events'), ['visitor_id']) }} as affected_events
),

exposures as (
    select
        scopes.application,
        events.experiment,
        events.visitor_id,
        (array_agg(events.variant order by events.occurred_at, events.event_id))[1] as variant,
        (array_agg(events.goal order by events.occurred_at, events.event_id))[1] as goal,
        min(events.occurred_at) as exposed_at
    from events
    cross join lateral (values (events.application), ('all')) as scopes (application)
    where events.event_name = 'experiment.exposed'
    group by 1, 2, 3
),

goals as (
    select
        visitor_id,
        event_name,
        max(occurred_at) as last_at
    from events
    -- an exposure does not reach a goal, whatever the goal is called
    where event_name != 'experiment.exposed'
    group by visitor_id, event_name
)

select
    exposures.experiment,
    exposures.application,
    exposures.visitor_id,
    exposures.variant,
    exposures.goal,
    exposures.exposed_at,
    coalesce(goals.last_at >= exposures.exposed_at, false) as is_converted
from exposures
left join goals on exposures.visitor_id = goals.visitor_id and exposures.goal = goals.event_name
