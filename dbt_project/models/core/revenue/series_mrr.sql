-- Grain: application, segment, segment_value. When each series of the MRR metrics begins: with its first counted row.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with counted as (
    select
        periods.application,
        periods.plan_tier,
        accounts.country,
        accounts.legal_entity,
        accounts.account_type,
        periods.valid_from as happened_at
    from {{ ref('fct_subscription_periods') }} as periods
    left join {{ ref('accounts') }} as accounts on periods.account_id = accounts.account_id
    where periods.is_counted
)

{{ first_appearances('counted', ['plan_tier', 'country', 'account_type']) }}
