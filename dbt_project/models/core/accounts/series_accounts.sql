-- Grain: application, segment, segment_value. When each series of the account metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['accounts'] %}

with accounts as (
    select
        *,
        created_at as happened_at
    from {{ ref('accounts') }}
    where {{ since_touched(facts, 'created_at') }}
),

touched_series as (
    {{ first_appearances('accounts', ['country', 'account_type', 'acquisition_channel']) }}
)

{{ with_earlier_series('touched_series', facts) }}
