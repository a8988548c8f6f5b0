-- Grain: application, month, from_event, to_event. Sessions that went from one event directly to another, by the month in which they
-- began: '(entry)' leads to a session's first event, '(exit)' follows its last. share: percent of the sessions with from_event.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'month', 'from_event', 'to_event'], affected_by=['month'],
    scope_of={'path_days': {'month': start_of('month', 'day::timestamp') ~ '::date'}},
    indexes=[{'columns': ['month']}]
) }}

with steps as (
    select
        application,
        {{ start_of('month', 'day::timestamp') }}::date as month,
        from_event,
        to_event,
        sum(sessions)::bigint as sessions
    from {{ ref('path_days') }}
    where {{ only_affected(start_of('month', 'day::timestamp') ~ '::date') }}
    group by 1, 2, 3, 4
)

select
    steps.application,
    steps.month,
    steps.from_event,
    steps.to_event,
    steps.sessions,
    round(100 * steps.sessions::numeric / passing.sessions, 6) as share
from steps
inner join steps as passing
    on steps.application = passing.application
    and steps.month = passing.month
    and steps.from_event = passing.from_event
    and passing.to_event = ''
where steps.to_event != ''
