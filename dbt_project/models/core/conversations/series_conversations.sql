-- Grain: application, segment, segment_value. When each series of the conversation metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with conversations as (
    select
        application,
        channel,
        started_at as happened_at
    from {{ ref('conversations') }}
)

{{ first_appearances('conversations', ['channel']) }}
