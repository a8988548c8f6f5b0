-- Grain: application, country, estimated_on. The addressable market; country '' is an estimate for all countries.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'country', 'estimated_on'], touches=['estimated_on']
) }}

select
    application,
    coalesce(country, '') as country,
    as_of as estimated_on,
    addressable_accounts
from {{ ref('stg_market_size') }}
