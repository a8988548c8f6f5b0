-- Grain: fact, application, segment, segment_value. When each series of the signal metrics begins.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['request_hours', 'probe_hours', 'error_hours', 'resource_hours', 'query_hours', 'vital_hours', 'integration_hours'] %}

with requests as (
    select
        *,
        request_hour as happened_at
    from {{ ref('request_hours') }}
    where {{ since_touched(facts, 'request_hour') }}
),

api_requests as (
    select * from requests
    where service = 'api'
),

auth_requests as (
    select * from requests
    where service = 'auth'
),

probes as (
    select
        *,
        checked_hour as happened_at
    from {{ ref('probe_hours') }}
    where {{ since_touched(facts, 'checked_hour') }}
),

own_probes as (
    select * from probes
    where not is_third_party
),

third_party_probes as (
    select * from probes
    where is_third_party
),

errors as (
    select
        *,
        error_hour as happened_at
    from {{ ref('error_hours') }}
    where level in ('error', 'fatal') and {{ since_touched(facts, 'error_hour') }}
),

resources as (
    select
        *,
        sampled_hour as happened_at
    from {{ ref('resource_hours') }}
    where {{ since_touched(facts, 'sampled_hour') }}
),

statements as (
    select
        *,
        query_hour as happened_at
    from {{ ref('query_hours') }}
    where {{ since_touched(facts, 'query_hour') }}
),

vitals as (
    select
        *,
        load_hour as happened_at
    from {{ ref('vital_hours') }}
    where {{ since_touched(facts, 'load_hour') }}
),

integrations as (
    select
        *,
        call_hour as happened_at
    from {{ ref('integration_hours') }}
    where {{ since_touched(facts, 'call_hour') }}
),

setups as (
    select * from integrations
    where kind = 'setup'
),

calls as (
    select * from integrations
    where kind = 'call'
),

found as (
    {{ series_of('requests', 'requests', ['service']) }}
    union all
    {{ series_of('api', 'api_requests', ['route']) }}
    union all
    {{ series_of('auth', 'auth_requests') }}
    union all
    {{ series_of('probes', 'own_probes', ['service']) }}
    union all
    {{ series_of('third_party_probes', 'third_party_probes', ['service']) }}
    union all
    {{ series_of('errors', 'errors', ['level', 'service']) }}
    union all
    {{ series_of('resources', 'resources', ['resource']) }}
    union all
    {{ series_of('statements', 'statements') }}
    union all
    {{ series_of('vitals', 'vitals', ['device', 'page']) }}
    union all
    {{ series_of('setups', 'setups', ['integration']) }}
    union all
    {{ series_of('calls', 'calls', ['integration']) }}
)

{{ with_standing('found', facts, ['fact', 'application', 'segment', 'segment_value']) }}
