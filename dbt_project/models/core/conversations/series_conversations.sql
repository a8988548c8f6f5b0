-- Grain: application, segment, segment_value. When each series of the conversation metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['conversations'] %}

with conversations as (
    select
        application,
        channel,
        started_at as happened_at
    from {{ ref('conversations') }}
    where {{ since_touched(facts, 'started_at') }}
),

touched_series as (
    {{ first_appearances('conversations', ['channel']) }}
)

{{ with_earlier_series('touched_series', facts) }}
