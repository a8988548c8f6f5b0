-- Grain: event_id. The events that are stages of a funnel, or a landing.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key='event_id', affected_by=['event_id'],
    touches=['occurred_at'],
    indexes=[{'columns': ['event_id'], 'unique': true}, {'columns': ['anonymous_id']}]
) }}

with stages as (
    select split_part(event_name, '#', 1) as event_name from {{ ref('funnels') }}
    union
    select 'page.landing'
),

events as (
    {% if is_incremental() %}
    select e.* from {{ ref('stg_events') }} as e
    where e.occurred_at >= (select min(occurred_at) from affected_funnel_events)
        and e.occurred_at <= (select max(occurred_at) from affected_funnel_events)
        and e.event_id in (select event_id from affected_funnel_events)
    {% else %}
    select * from {{ ref('stg_events') }}
    {% endif %}
)

select
    events.event_id,
    events.event_name,
    events.occurred_at,
    events.application,
    events.country,
    events.account_id,
    events.anonymous_id
from events
inner join stages on events.event_name = stages.event_name
where coalesce(events.account_id, events.anonymous_id) is not null
