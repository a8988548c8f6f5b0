-- Grain: response_id. Surveys sent and answered, with the channel of the ticket they are about; drivers' scores have a question.
{{ config(
    materialized='incremental', unique_key='response_id', affected_by=['response_id'],
    scope_of={'stg_tickets': {'through': 'stg_survey_responses', 'on': 'ticket_id'}},
    touches=['sent_at', 'responded_at'],
    ordered_by=['sent_at'],
    indexes=[{'columns': ['response_id'], 'unique': true}, {'columns': ['sent_at']}, {'columns': ['responded_at']}]
) }}

with responses as (
    select * from {{ ref('stg_survey_responses') }}
    where {{ only_affected('response_id') }}
),

tickets as (
    select * from {{ ref('stg_tickets') }}
)

select
    responses.response_id,
    responses.survey,
    responses.application,
    responses.question,
    tickets.channel,
    responses.sent_at,
    responses.responded_at,
    -- a score is known when it is given
    case when responses.responded_at is not null then responses.score end as score
from responses
left join tickets on responses.ticket_id = tickets.ticket_id
