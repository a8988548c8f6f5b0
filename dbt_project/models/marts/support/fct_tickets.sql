-- Grain: ticket_id. Support tickets that count (those with transitions: no spam, deleted or merged ones) with their response
-- and resolution.
{{ config(
    materialized='incremental', unique_key='ticket_id', affected_by=['ticket_id'], scope_of={'ticket_transitions': false},
    touches=['created_at', 'first_response_at', 'first_escalated_at', 'resolved_at'],
    meta={'lookups': [['account_id']]},
    indexes=[{'columns': ['ticket_id'], 'unique': true}, {'columns': ['created_at']}]
) }}

with tickets as (
    select * from {{ ref('stg_tickets') }}
    where {{ only_affected('ticket_id') }}
),

events as (
    select * from {{ ref('stg_ticket_events') }}
    where {{ only_affected('ticket_id') }}
),

-- clocks differ: what is stamped before its ticket happened, but nobody knows when
possible_events as (
    select events.*
    from events
    inner join tickets on events.ticket_id = tickets.ticket_id
    where events.occurred_at >= tickets.created_at
),

transitions as (
    select * from {{ ref('ticket_transitions') }}
    where {{ only_affected('ticket_id') }}
),

replies as (
    select
        ticket_id,
        -- only people's public answers stop the clock
        min(occurred_at) filter (where event_type = 'public_reply' and actor_type = 'agent') as first_response_at,
        count(*) filter (where event_type = 'public_reply' and actor_type = 'agent') as public_agent_replies,
        min(occurred_at) filter (where event_type = 'escalated') as first_escalated_at,
        count(*) filter (where event_type = 'reopened') as reopenings,
        max(occurred_at) filter (where event_type = 'reopened') as last_reopened_at,
        max(occurred_at) filter (where event_type = 'solved') as last_solved_at,
        count(*) filter (where event_type in ('solved', 'closed')) as ends
    from possible_events
    group by ticket_id
),

ended as (
    select distinct ticket_id from events
    where event_type in ('solved', 'closed')
),

states as (
    select
        ticket_id,
        sum(difference) = 1 as is_open,
        -- the first is its creation
        count(*) filter (where difference = 1) - 1 as reopenings,
        max(happened_at) filter (where difference = 1 and transition_number > 1) as last_reopened_at,
        max(happened_at) filter (where difference = -1) as last_ended_at
    from transitions
    group by ticket_id
),

resolved as (
    select
        tickets.*,
        replies.first_response_at,
        replies.first_escalated_at,
        coalesce(replies.public_agent_replies, 0) as public_agent_replies,
        -- as events say, or as states go from solved to open
        greatest(replies.reopenings, states.reopenings) as reopenings,
        states.is_open,
        case
            when states.is_open then null
            -- solved again after the last reopening; else it was closed without a solve
            when replies.last_solved_at >= coalesce(greatest(replies.last_reopened_at, states.last_reopened_at), replies.last_solved_at)
                then replies.last_solved_at
            when ended.ticket_id is not null and coalesce(replies.ends, 0) = 0 then null
            else states.last_ended_at
        end as resolved_at
    from tickets
    inner join states on tickets.ticket_id = states.ticket_id
    left join replies on tickets.ticket_id = replies.ticket_id
    left join ended on tickets.ticket_id = ended.ticket_id
)

select
    ticket_id,
    account_id,
    application,
    channel,
    category,
    priority,
    status,
    created_at,
    first_response_at,
    first_escalated_at,
    resolved_at,
    is_open,
    public_agent_replies,
    reopenings,
    extract(epoch from first_response_at - created_at) / 60 as first_response_minutes,
    extract(epoch from first_escalated_at - created_at) / 60 as first_escalation_minutes,
    extract(epoch from resolved_at - created_at) / 3600 as resolution_hours,
    {{ business_seconds('created_at', 'first_response_at', 'application') }} / 60 as first_response_business_minutes,
    {{ business_seconds('created_at', 'first_escalated_at', 'application') }} / 60 as first_escalation_business_minutes,
    {{ business_seconds('created_at', 'resolved_at', 'application') }} / 3600 as resolution_business_hours
from resolved
