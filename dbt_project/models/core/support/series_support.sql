-- Grain: application, segment, segment_value. When each series of the support metrics begins.
{{ config(
    materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with tickets as (
    select
        *,
        created_at as happened_at
    from {{ ref('fct_tickets') }}
),

scores as (
    select * from {{ ref('support_scores') }}
),

both_series as (
    select * from ({{ first_appearances('tickets', ['channel', 'priority', 'category']) }}) as ticket_series
    union all
    select * from ({{ first_appearances('scores') }}) as score_series
)

select
    application,
    segment,
    segment_value,
    min(first_at) as first_at
from both_series
group by application, segment, segment_value
