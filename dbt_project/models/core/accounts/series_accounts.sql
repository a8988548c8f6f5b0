-- Grain: application, segment, segment_value. When each series of the account metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with accounts as (
    select
        *,
        created_at as happened_at
    from {{ ref('accounts') }}
)

{{ first_appearances('accounts', ['country', 'account_type', 'acquisition_channel']) }}
