-- Grain: ticket_id, transition_number. When a ticket was open: +1 when it is created or open again, -1 when it is solved or closed.
-- Spam, deleted and merged tickets are left out. A ticket that is solved or closed without any such event is taken to have
-- been solved at its last update; one that its last update left open, though it was solved before, was reopened then.
-- What is stamped before its ticket's creation, since clocks differ, counts from then on.
{{ config(
    materialized='incremental', unique_key=['ticket_id', 'transition_number'],
    affected_by=['ticket_id'], touches=['happened_at'],
    indexes=[{'columns': ['ticket_id']}, {'columns': ['happened_at']}]
) }}

with tickets as (
    select * from {{ ref('stg_tickets') }}
    where status not in ('spam', 'deleted', 'merged') and {{ only_affected('ticket_id') }}
),

events as (
    select
        ticket_id,
        ticket_event_id,
        event_type,
        occurred_at
    from {{ ref('stg_ticket_events') }}
    where event_type in ('solved', 'closed', 'reopened', 'opened') and {{ only_affected('ticket_id') }}
),

ends as (
    select
        tickets.ticket_id,
        '' as event_order,
        tickets.created_at as happened_at,
        1 as is_open,
        true as comes_first
    from tickets
    union all
    select
        events.ticket_id,
        events.ticket_event_id,
        greatest(events.occurred_at, tickets.created_at),
        (events.event_type in ('reopened', 'opened'))::int,
        -- a log of states has its own order within an instant: that of its ids
        events.event_type = 'reopened'
    from events
    inner join tickets on events.ticket_id = tickets.ticket_id
    union all
    select
        tickets.ticket_id,
        '',
        greatest(tickets.updated_at, tickets.created_at),
        0,
        false
    from tickets
    where tickets.status in ('solved', 'closed')
        and tickets.updated_at < {{ as_of() }}
        and not exists (
            select 1 from {{ source('staging', 'ticket_events') }} as any_event
            where any_event.ticket_id = tickets.ticket_id and any_event.event_type in ('solved', 'closed')
        )
    union all
    select
        ticket_id,
        '',
        greatest(updated_at, created_at),
        1,
        false
    from tickets
    where status in ('new', 'open', 'pending', 'on_hold') and updated_at < {{ as_of() }}
),

steps as (
    select
        *,
        is_open - coalesce(lag(is_open) over in_order, 0) as difference
    from ends
    window in_order as (partition by ticket_id order by happened_at, comes_first desc, event_order)
)

select
    ticket_id,
    row_number() over (partition by ticket_id order by happened_at, comes_first desc, event_order)::int as transition_number,
    happened_at,
    difference
from steps
where difference != 0
