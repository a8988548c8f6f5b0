-- Grain: application, segment, segment_value. When each series of the session metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with starts as (
    select
        application,
        coalesce(channel, '(unknown)') as channel,
        started_at as happened_at
    from {{ ref('fct_sessions') }}
    union all
    select
        application,
        channel,
        message_hour
    from {{ ref('message_hours') }}
)

{{ first_appearances('starts', ['channel']) }}
