-- Grain: application, segment, segment_value. When each series of the activity metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['active_accounts', 'feature_days'] %}

with activity as (
    select
        application,
        channel,
        account_type,
        activity_on::timestamptz as happened_at
    from {{ ref('active_accounts') }}
    where {{ since_touched(facts, 'activity_on') }}
),

features as (
    select
        application,
        feature,
        used_on::timestamptz as happened_at
    from {{ ref('feature_days') }}
    where {{ since_touched(facts, 'used_on') }}
),

touched_series as (
    select * from ({{ first_appearances('activity', ['channel', 'account_type']) }}) as activity_series
    union all
    select * from ({{ first_appearances('features', ['feature']) }}) as feature_series
    where segment = 'feature'
)

{{ with_earlier_series('touched_series', facts) }}
