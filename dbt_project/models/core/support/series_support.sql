-- Grain: application, segment, segment_value. When each series of the support metrics begins.
{{ config(
    materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['fct_tickets', 'support_scores'] %}

with tickets as (
    select
        *,
        created_at as happened_at
    from {{ ref('fct_tickets') }}
    where {{ since_touched(facts, 'created_at') }}
),

scores as (
    select * from {{ ref('support_scores') }}
    where {{ since_touched(facts, 'happened_at') }}
),

both_series as (
    select * from ({{ first_appearances('tickets', ['channel', 'priority', 'category']) }}) as ticket_series
    union all
    select * from ({{ first_appearances('scores') }}) as score_series
),

touched_series as (
    select
        application,
        segment,
        segment_value,
        min(first_at) as first_at
    from both_series
    group by application, segment, segment_value
)

{{ with_earlier_series('touched_series', facts) }}
