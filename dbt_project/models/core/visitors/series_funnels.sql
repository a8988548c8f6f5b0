-- Grain: funnel. When the first visitor entered each funnel.
{{ config(
    materialized='incremental', unique_key=['funnel'], touches=['first_at']
) }}

select
    funnel,
    min(entered_at) as first_at
from {{ ref('funnel_entries') }}
group by funnel
