-- Grain: application, segment, segment_value. When each series of the payment metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with flows as (
    select * from {{ ref('cash_flows') }}
)

{{ first_appearances('flows', ['country', 'failure_code']) }}
