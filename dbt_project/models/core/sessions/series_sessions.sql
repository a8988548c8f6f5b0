-- Grain: application, segment, segment_value. When each series of the session metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['fct_sessions', 'message_hours'] %}

with starts as (
    select
        application,
        coalesce(channel, '(unknown)') as channel,
        started_at as happened_at
    from {{ ref('fct_sessions') }}
    where {{ since_touched(facts, 'started_at') }}
    union all
    select
        application,
        channel,
        message_hour
    from {{ ref('message_hours') }}
    where {{ since_touched(facts, 'message_hour') }}
),

touched_series as (
    {{ first_appearances('starts', ['channel']) }}
)

{{ with_earlier_series('touched_series', facts) }}
