-- Grain: application, segment, segment_value. When each series of user retention begins; application is the account's own.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['active_accounts'] %}

with activity as (
    select
        coalesce(home_application, application) as application,
        account_type,
        activity_on::timestamptz as happened_at
    from {{ ref('active_accounts') }}
    where {{ since_touched(facts, 'activity_on') }}
),

touched_series as (
    {{ first_appearances('activity', ['account_type']) }}
)

{{ with_earlier_series('touched_series', facts) }}
