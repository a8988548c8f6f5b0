-- Grain: application, segment, segment_value. When each series of landing visitors begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['visitor_events'] %}

with landings as (
    select
        application,
        country,
        null::text as legal_entity,
        occurred_at as happened_at
    from {{ ref('visitor_events') }}
    where event_name = 'page.landing'
        and {{ since_touched(facts, 'occurred_at') }}
),

touched_series as (
    {{ first_appearances('landings', ['country']) }}
)

{{ with_earlier_series('touched_series', facts) }}
