-- Grain: fact, application, segment, segment_value. When each series of the assistant's metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with responses as (
    select * from {{ ref('stg_ai_responses') }}
)

{{ series_of('responses', 'responses', [], 'created_at') }}
