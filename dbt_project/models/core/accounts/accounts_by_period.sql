-- Grain: grain, period_start, application, segment, segment_value. Registered accounts at the period's end and start.
{{ config(
    materialized='incremental',
    unique_key=['grain', 'period_start', 'application', 'segment', 'segment_value'], affected_by=['grain', 'period_start'],
    scope_of={'accounts': 'onward'},
    indexes=[{'columns': ['grain', 'period_start']}]
) }}
{% set measures = ['registered_accounts', 'registered_creators', 'opted_in_accounts'] %}

with accounts as (
    select * from {{ ref('accounts') }}
),

differences as (
    select
        account_id,
        application,
        country,
        legal_entity,
        account_type,
        created_at as happened_at,
        1 as registered_accounts,
        (account_type = 'creator')::int as registered_creators,
        (telemetry_opt_in is true)::int as opted_in_accounts
    from accounts
    union all
    select
        account_id,
        application,
        country,
        legal_entity,
        account_type,
        -- an account is not deleted before it is created
        greatest(deleted_at, created_at),
        -1,
        -(account_type = 'creator')::int,
        -(telemetry_opt_in is true)::int
    from accounts
    where deleted_at is not null
),

series as (
    select * from {{ ref('series_accounts') }}
    where segment != 'acquisition_channel'
)

{{ running_totals('differences', 'series', measures, ['country', 'account_type'], ['day', 'week', 'month', 'quarter', 'year'], 'account_id') }}
