-- Grain: application, sprint. Sprints that have ended, with the story points completed by the end of their last day.
{{ config(
    materialized='incremental', unique_key=['application', 'sprint'], touches=['ended_at']
) }}

with items as (
    select
        *,
        max(sprint_ends_on) over (partition by application, sprint) as ends_on
    from {{ ref('stg_work_items') }}
    where sprint is not null and sprint_ends_on is not null
)

select
    application,
    sprint,
    -- the last instant of the last day: the sprint belongs to the period that holds it
    (ends_on + 1)::timestamptz - interval '1 microsecond' as ended_at,
    coalesce(sum(story_points) filter (where completed_at < (ends_on + 1)::timestamptz), 0) as completed_points
from items
where (ends_on + 1)::timestamptz <= {{ as_of() }}
group by application, sprint, ends_on
