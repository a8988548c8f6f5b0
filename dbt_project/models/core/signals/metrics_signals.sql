-- Grain: metric_id, grain, period_start, application, segment, segment_value. Availability, errors, times and load, from hourly sums.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set series = ref('series_signals') %}

with requests as (
    select
        *,
        request_hour as happened_at
    from {{ ref('request_hours') }}
    where {{ at_or_after_affected('request_hour') }}
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
    where {{ at_or_after_affected('checked_hour') }}
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
    where level in ('error', 'fatal') and {{ at_or_after_affected('error_hour') }}
),

resources as (
    select
        *,
        sampled_hour as happened_at
    from {{ ref('resource_hours') }}
    where {{ at_or_after_affected('sampled_hour') }}
),

statements as (
    select
        *,
        query_hour as happened_at
    from {{ ref('query_hours') }}
    where {{ at_or_after_affected('query_hour') }}
),

vitals as (
    select
        *,
        load_hour as happened_at
    from {{ ref('vital_hours') }}
    where {{ at_or_after_affected('load_hour') }}
),

integrations as (
    select
        *,
        call_hour as happened_at
    from {{ ref('integration_hours') }}
    where {{ at_or_after_affected('call_hour') }}
),

setups as (
    select * from integrations
    where kind = 'setup'
),

calls as (
    select * from integrations
    where kind = 'call'
)

{{ metrics_of('requests', series, 'requests', {
    'requests': 'sum(r.requests)', 'failed': 'sum(r.failed)',
    'critical': 'sum(r.critical)', 'failed_critical': 'sum(r.failed_critical)',
}, ['service'], grains, {
    'api_requests': ['requests', none],
    'error_rate': ['failed', 'requests'],
    'critical_error_rate': ['failed_critical', 'critical'],
}) }}
union all
{{ metrics_of('api_requests', series, 'api', {'duration_ms': 'sum(r.duration_ms)', 'requests': 'sum(r.requests)'}, ['route'], grains, {
    'api_response_time': ['duration_ms', 'requests'],
}) }}
union all
{{ metrics_of('auth_requests', series, 'auth', {'duration_ms': 'sum(r.duration_ms)', 'requests': 'sum(r.requests)'}, [], grains, {
    'auth_response_time': ['duration_ms', 'requests'],
}) }}
union all
{{ metrics_of('own_probes', series, 'probes', {'checks': 'sum(r.checks)', 'up': 'sum(r.up)'}, ['service'], grains, {
    'uptime': ['up', 'checks'],
}) }}
union all
{{ metrics_of('third_party_probes', series, 'third_party_probes', {'checks': 'sum(r.checks)', 'up': 'sum(r.up)'}, ['service'],
    ['hour', 'day', 'month'], {
    'third_party_uptime': ['up', 'checks'],
}) }}
union all
{{ metrics_of('errors', series, 'errors', {'errors': 'sum(r.errors)'}, ['level', 'service'], grains, {
    'application_errors': ['errors', none],
}) }}
union all
{{ metrics_of('resources', series, 'resources', {
    'cpu_percent': 'sum(r.cpu_percent)', 'cpu_samples': 'sum(r.cpu_samples)',
    'memory_percent': 'sum(r.memory_percent)', 'memory_samples': 'sum(r.memory_samples)',
    'network_latency_ms': 'sum(r.network_latency_ms)', 'latency_samples': 'sum(r.latency_samples)',
    'concurrent_users': 'max(r.concurrent_users)',
}, ['resource'], grains, {
    'cpu_utilisation': ['cpu_percent', 'cpu_samples'],
    'memory_utilisation': ['memory_percent', 'memory_samples'],
    'network_latency': ['network_latency_ms', 'latency_samples'],
    'peak_concurrent_users': ['concurrent_users', none],
}) }}
union all
{{ metrics_of('statements', series, 'statements', {
    'total_ms': 'sum(r.total_ms)', 'calls': 'sum(r.calls)', 'slow_calls': 'sum(r.slow_calls)',
}, [], ['hour', 'day', 'week'], {
    'query_time': ['total_ms', 'calls'],
    'slow_queries': ['slow_calls', none],
}) }}
union all
{{ metrics_of('vitals', series, 'vitals', {
    'lighthouse_score': 'sum(r.lighthouse_score)', 'lighthouse_loads': 'sum(r.lighthouse_loads)',
    'accessibility_score': 'sum(r.accessibility_score)', 'accessibility_loads': 'sum(r.accessibility_loads)',
}, ['device'], ['week', 'month'], {
    'lighthouse_score': ['lighthouse_score', 'lighthouse_loads'],
    'accessibility_score': ['accessibility_score', 'accessibility_loads'],
}) }}
union all
{{ metrics_of('setups', series, 'setups', {'calls': 'sum(r.calls)', 'succeeded': 'sum(r.succeeded)'}, ['integration'],
    ['day', 'week', 'month'], {
    'integration_success_rate': ['succeeded', 'calls'],
}) }}
union all
{{ metrics_of('calls', series, 'calls', {'calls': 'sum(r.calls)', 'succeeded': 'sum(r.succeeded)'}, ['integration'], grains, {
    'integration_call_success_rate': ['succeeded', 'calls'],
}) }}
