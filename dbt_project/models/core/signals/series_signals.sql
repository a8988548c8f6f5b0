-- Grain: fact, application, segment, segment_value. When each series of the signal metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}
{% set facts = ['request_hours', 'probe_hours', 'error_hours', 'resource_hours', 'query_hours', 'vital_hours', 'integration_hours'] %}

with {{ signal_facts(facts) }},

touched_series as (
    {{ series_of('requests', 'requests', ['service'], 'request_hour') }}
    union all
    {{ series_of('api', 'api_requests', ['route'], 'request_hour') }}
    union all
    {{ series_of('auth', 'auth_requests', [], 'request_hour') }}
    union all
    {{ series_of('probes', 'own_probes', ['service'], 'checked_hour') }}
    union all
    {{ series_of('third_party_probes', 'third_party_probes', ['service'], 'checked_hour') }}
    union all
    {{ series_of('errors', 'errors', ['level', 'service'], 'error_hour') }}
    union all
    {{ series_of('resources', 'resources', ['resource'], 'sampled_hour') }}
    union all
    {{ series_of('statements', 'statements', [], 'query_hour') }}
    union all
    {{ series_of('vitals', 'vitals', ['device', 'page'], 'load_hour') }}
    union all
    {{ series_of('setups', 'setups', ['integration'], 'call_hour') }}
    union all
    {{ series_of('calls', 'calls', ['integration'], 'call_hour') }}
)

{{ with_earlier_series('touched_series', facts, ['fact', 'application', 'segment', 'segment_value']) }}
