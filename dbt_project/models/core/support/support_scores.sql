-- Grain: kind, source_id. Customers' scores of support, and visits to the help centre.
{{ config(
    materialized='incremental', unique_key=['kind', 'source_id'],
    affected_by=['source_id'],
    scope_of={'stg_survey_responses': {'source_id': 'response_id'}, 'stg_help_center_visits': {'source_id': 'visit_id'}},
    touches=['happened_at'],
    ordered_by=['happened_at'], indexes=[{'columns': ['happened_at']}, {'columns': ['source_id']}]
) }}

select
    survey as kind,
    response_id as source_id,
    application,
    responded_at as happened_at,
    score,
    0 as served_itself
from {{ ref('stg_survey_responses') }}
where survey in ('support_csat', 'help_center')
    -- a driver's score is not the overall one
    and question is null
    and score is not null
    and responded_at is not null
    and {{ only_affected('response_id') }}
union all
select
    'help_center_visit',
    visit_id,
    application,
    occurred_at,
    null,
    (not led_to_ticket)::int
from {{ ref('stg_help_center_visits') }}
where {{ only_affected('visit_id') }}
