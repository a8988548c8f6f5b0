-- Grain: application, segment, segment_value. When each series of the payment metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['fct_payments', 'fct_refunds'] %}

with flows as (
    select * from {{ ref('cash_flows') }}
    where {{ since_touched(facts, 'happened_at') }}
),

touched_series as (
    {{ first_appearances('flows', ['country', 'failure_code']) }}
)

{{ with_earlier_series('touched_series', facts) }}
