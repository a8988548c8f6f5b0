-- Grain: account_id. Creators and their first steps: within 7 days of registration.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='account_id', affected_by=['account_id'],
    scope_of={'stg_content_items': {'account_id': 'creator_id'}, 'stg_conversations': {'account_id': 'creator_id'}},
    touches=['created_at'], indexes=[{'columns': ['account_id'], 'unique': true}]
) }}

with creators as (
    select
        account_id,
        application,
        created_at,
        deleted_at,
        created_at + interval '7 days' as until
    from {{ ref('accounts') }}
    where account_type = 'creator' and {{ only_affected('account_id') }}
),

onboarding as (
    select distinct creators.account_id
    from creators
    inner join {{ ref('creator_event_days') }} as days
        on creators.account_id = days.account_id
        and days.event_name = 'creator.onboarding_completed'
        and days.last_at >= creators.created_at
        and days.first_at <= creators.until
),

content as (
    select
        creators.account_id,
        bool_or(items.kind = 'document') as has_uploaded_knowledge,
        bool_or(items.kind = 'program') as has_created_program
    from creators
    inner join {{ ref('stg_content_items') }} as items
        on creators.account_id = items.creator_id
        and items.created_at between creators.created_at and creators.until
    group by creators.account_id
),

conversations as (
    select distinct creators.account_id
    from creators
    inner join {{ ref('stg_conversations') }} as creator_conversations
        on creators.account_id = creator_conversations.creator_id
        and creator_conversations.started_at between creators.created_at and creators.until
)

select
    creators.account_id,
    creators.application,
    creators.created_at,
    creators.deleted_at,
    onboarding.account_id is not null as has_onboarded,
    coalesce(content.has_uploaded_knowledge, false) as has_uploaded_knowledge,
    coalesce(content.has_created_program, false) as has_created_program,
    conversations.account_id is not null as has_been_talked_to
from creators
left join onboarding on creators.account_id = onboarding.account_id
left join content on creators.account_id = content.account_id
left join conversations on creators.account_id = conversations.account_id
