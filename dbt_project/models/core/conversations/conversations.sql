-- Grain: conversation_id. Conversations by their start.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='conversation_id',
    affected_by=['conversation_id'], touches=['started_at'],
    ordered_by=['started_at'], indexes=[{'columns': ['conversation_id'], 'unique': true}, {'columns': ['started_at']}]
) }}

with visible as (
    select * from {{ ref('stg_conversations') }}
    where {{ only_affected('conversation_id') }}
),

landed as (
    select * from {{ source('staging', 'conversations') }}
)

select
    visible.conversation_id,
    visible.application,
    visible.account_id,
    visible.creator_id,
    visible.channel,
    visible.started_at,
    visible.ended_at,
    -- how a conversation ended is not known before it did
    visible.ended_naturally and (visible.ended_at is not null or landed.ended_at is null) as ended_naturally
from visible
inner join landed on visible.conversation_id = landed.conversation_id
