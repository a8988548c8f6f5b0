-- Grain: funnel. When the first visitor entered each funnel.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['funnel'], touches=['first_at']
) }}
{% set facts = ['funnel_entries'] %}

with touched_series as (
    select
        funnel,
        min(entered_at) as first_at
    from {{ ref('funnel_entries') }}
    where {{ since_touched(facts, 'entered_at') }}
    group by funnel
)

{{ with_earlier_series('touched_series', facts, ['funnel']) }}
