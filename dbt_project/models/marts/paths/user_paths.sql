-- Grain: application, month, from_event, to_event. Sessions that went from one event straight to another, by the month in which they
-- began: '(entry)' leads to a session's first event, '(exit)' follows its last. share: percent of the sessions with from_event.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'month', 'from_event', 'to_event'], affected_by=['month'], indexes=[{'columns': ['month']}]
) }}

with sessions as (
    select
        application,
        session_id,
        date_trunc('month', started_at)::date as month,
        ended_at
    from {{ ref('fct_sessions') }}
    where {{ only_affected("date_trunc('month', started_at)::date") }}
),

span as (
    select
        min(month) as begins_on,
        max(ended_at) as ends_at
    from sessions
),

events as (
    select
        sessions.application,
        sessions.month,
        events.session_id,
        events.event_name,
        lead(events.event_name) over in_order as next_event,
        lag(events.event_id) over in_order is null as is_first
    from {{ ref('stg_events') }} as events
    inner join sessions on events.application = sessions.application and events.session_id = sessions.session_id
    {% if is_incremental() %}
    where events.occurred_at between (select begins_on from span) and (select ends_at from span)
    {% endif %}
    window in_order as (partition by events.application, events.session_id order by events.occurred_at, events.event_id)
),

steps as (
    select distinct
        events.application,
        events.month,
        events.session_id,
        step.from_event,
        step.to_event
    from events
    cross join lateral (
        values
        (events.event_name, coalesce(events.next_event, '(exit)')),
        (case when events.is_first then '(entry)' end, events.event_name)
    ) as step (from_event, to_event)
    where step.from_event is not null
),

passing as (
    select
        application,
        month,
        from_event,
        count(distinct session_id) as sessions
    from steps
    group by 1, 2, 3
),

counted as (
    select
        application,
        month,
        from_event,
        to_event,
        count(*) as sessions
    from steps
    group by 1, 2, 3, 4
)

select
    counted.application,
    counted.month,
    counted.from_event,
    counted.to_event,
    counted.sessions,
    round(100 * counted.sessions::numeric / passing.sessions, 6) as share
from counted
inner join passing
    on counted.application = passing.application and counted.month = passing.month and counted.from_event = passing.from_event
