-- Grain: funnel, stage_number. When the first event of each stage came, whatever the visitor had done before.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['funnel', 'stage_number'], touches=['first_at']
) }}
{% set facts = ['funnel_events'] %}

with touched_series as (
    select
        stages.funnel,
        stages.stage_number,
        min(events.occurred_at) as first_at
    from {{ ref('funnel_events') }} as events
    inner join {{ ref('funnels') }} as stages
        on events.application = stages.application and events.event_name = split_part(stages.event_name, '#', 1)
    where {{ since_touched(facts, 'events.occurred_at') }}
    group by stages.funnel, stages.stage_number
)

{{ with_earlier_series('touched_series', facts, ['funnel', 'stage_number']) }}
