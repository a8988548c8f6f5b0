-- Grain: application, day, from_event, to_event. Sessions that went from one event directly to another, by the day on which they
-- began, so that months add up from days. to_event '' counts the sessions with from_event, whatever came next.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'day', 'from_event', 'to_event'], affected_by=['day'], indexes=[{'columns': ['day']}]
) }}

with sessions as (
    select
        application,
        session_id,
        started_at::date as day,
        ended_at
    from {{ ref('fct_sessions') }}
    {% if is_incremental() %}
    where started_at >= (select min(day) from affected_path_days)
        and {{ only_affected('started_at::date') }}
    {% endif %}
),

session_events as (
    select
        sessions.application,
        sessions.day,
        events.session_id,
        events.event_id,
        events.event_name,
        events.occurred_at
    from {% if is_incremental() %}
    (
        select
            spans.day,
            day_events.*
        from (
            select
                day,
                max(ended_at) as ends_at
            from sessions
            group by day
        ) as spans
        cross join lateral (
            select * from {{ ref('stg_events') }} as s
            where s.occurred_at >= spans.day and s.occurred_at <= spans.ends_at
            offset 0
        ) as day_events
    )
    {% else %}
    {{ ref('stg_events') }}
    {% endif %} as events
    inner join sessions
        on events.application = sessions.application
        and events.session_id = sessions.session_id
        {% if is_incremental() %}and events.day = sessions.day{% endif %}
),

ordered as (
    select
        *,
        lead(event_name) over in_order as next_event,
        lag(event_id) over in_order is null as is_first
    from session_events
    window in_order as (partition by application, session_id order by occurred_at, event_id)
),

steps as (
    select distinct
        ordered.application,
        ordered.day,
        ordered.session_id,
        step.from_event,
        step.to_event
    from ordered
    cross join lateral (
        values
        (ordered.event_name, coalesce(ordered.next_event, '(exit)')),
        (case when ordered.is_first then '(entry)' end, ordered.event_name)
    ) as step (from_event, to_event)
    where step.from_event is not null
),

passing as (
    select distinct
        application,
        day,
        session_id,
        from_event
    from steps
)

select
    application,
    day,
    from_event,
    to_event,
    count(*) as sessions
from steps
group by 1, 2, 3, 4
union all
select
    application,
    day,
    from_event,
    '' as to_event,
    count(*) as sessions
from passing
group by 1, 2, 3
