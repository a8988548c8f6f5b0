-- Grain: funnel, visitor_id, stage_number. When each visitor reached each stage (docs/semantics.md, Funnels): it enters once, at its
-- first stage-1 event; a stage is reached by the first event of its name at or after the stage before and within the
-- window from entry. `name#2` is the second such event since entry, at or after the stage before.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['funnel', 'visitor_id', 'stage_number'],
    affected_by=['visitor_id'], touches=['entered_at'],
    indexes=[{'columns': ['visitor_id']}, {'columns': ['entered_at']}]
) }}

with recursive stages as (
    select
        funnel,
        application,
        stage_number,
        split_part(event_name, '#', 1) as event_name,
        coalesce(nullif(split_part(event_name, '#', 2), ''), '1')::int as occurrence,
        window_days
    from {{ ref('funnels') }}
),

events as (
    select
        stages.funnel,
        stages.stage_number,
        stages.occurrence,
        stages.window_days,
        visitor_events.visitor_id,
        visitor_events.event_id,
        visitor_events.occurred_at
    from {{ rows_of_affected(ref('visitor_events'), ['visitor_id']) }} as visitor_events
    inner join stages
        on visitor_events.event_name = stages.event_name
        and visitor_events.application = stages.application
),

entries as (
    select
        funnel,
        visitor_id,
        min(occurred_at) as entered_at,
        max(window_days) as window_days
    from events
    where stage_number = 1
    group by funnel, visitor_id
),

candidates as (
    select
        events.funnel,
        events.visitor_id,
        events.stage_number,
        entries.entered_at,
        array_agg(events.occurred_at order by events.occurred_at, events.event_id) as times,
        max(events.occurrence) as occurrence
    from events
    inner join entries on events.funnel = entries.funnel and events.visitor_id = entries.visitor_id
    where events.occurred_at >= entries.entered_at
        and events.occurred_at <= entries.entered_at + entries.window_days * interval '1 day'
    group by 1, 2, 3, 4
),

reached as (
    select
        funnel,
        visitor_id,
        1 as stage_number,
        entered_at,
        entered_at as reached_at
    from entries
    union all
    select
        reached.funnel,
        reached.visitor_id,
        reached.stage_number + 1,
        reached.entered_at,
        next_event.occurred_at
    from reached
    inner join candidates
        on reached.funnel = candidates.funnel
        and reached.visitor_id = candidates.visitor_id
        and candidates.stage_number = reached.stage_number + 1
    cross join lateral (
        select min(event_times.occurred_at) as occurred_at
        from unnest(candidates.times) with ordinality as event_times (occurred_at, nth)
        where event_times.occurred_at >= reached.reached_at and event_times.nth >= candidates.occurrence
    ) as next_event
    where next_event.occurred_at is not null
)

select
    funnel,
    visitor_id,
    stage_number,
    entered_at,
    reached_at,
    extract(epoch from reached_at - lag(reached_at) over (partition by funnel, visitor_id order by stage_number))
        as seconds_from_previous
from reached
