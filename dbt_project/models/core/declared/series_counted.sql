-- Grain: fact, application, segment, segment_value. When each series of the counted metrics begins. Written by northstar.build.generate from metrics.yml.
{{ config(
    materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with marketing_spend_facts as (
    select
        application,
        channel,
        spend_on::timestamptz as happened_at
    from {{ ref('spend_days') }}
    where spend_on is not null
)

{{ series_of('marketing_spend', 'marketing_spend_facts', ['channel']) }}
