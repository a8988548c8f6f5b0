-- Grain: metric_id, grain, period_start, application, segment, segment_value. Availability, errors, times and load, from hourly sums.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set series = ref('series_signals') %}

with {{ signal_facts(grains=grains) }}

{{ metrics_of('requests', series, 'requests', {
    'requests': 'sum(r.requests)', 'failed': 'sum(r.failed)',
    'critical': 'sum(r.critical)', 'failed_critical': 'sum(r.failed_critical)',
}, ['service'], grains, {
    'api_requests': ['requests', none],
    'error_rate': ['failed', 'requests'],
    'critical_error_rate': ['failed_critical', 'critical'],
}, at='request_hour') }}
union all
{{ metrics_of('api_requests', series, 'api', {'duration_ms': 'sum(r.duration_ms)', 'timed_requests': 'sum(r.timed_requests)'}, ['route'], grains, {
    'api_response_time': ['duration_ms', 'timed_requests'],
}, at='request_hour') }}
union all
{{ metrics_of('auth_requests', series, 'auth', {'duration_ms': 'sum(r.duration_ms)', 'timed_requests': 'sum(r.timed_requests)'}, [], grains, {
    'auth_response_time': ['duration_ms', 'timed_requests'],
}, at='request_hour') }}
union all
{{ metrics_of('own_probes', series, 'probes', {'checks': 'sum(r.checks)', 'up': 'sum(r.up)'}, ['service'], grains, {
    'uptime': ['up', 'checks'],
}, at='checked_hour') }}
union all
{{ metrics_of('third_party_probes', series, 'third_party_probes', {'checks': 'sum(r.checks)', 'up': 'sum(r.up)'}, ['service'],
    ['hour', 'day', 'month'], {
    'third_party_uptime': ['up', 'checks'],
}, at='checked_hour') }}
union all
{{ metrics_of('errors', series, 'errors', {'errors': 'sum(r.errors)'}, ['level', 'service'], grains, {
    'application_errors': ['errors', none],
}, at='error_hour') }}
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
}, at='sampled_hour') }}
union all
{{ metrics_of('statements', series, 'statements', {
    'total_ms': 'sum(r.total_ms)', 'calls': 'sum(r.calls)', 'slow_calls': 'sum(r.slow_calls)',
}, [], ['hour', 'day', 'week'], {
    'query_time': ['total_ms', 'calls'],
    'slow_queries': ['slow_calls', none],
}, at='query_hour') }}
union all
{{ metrics_of('vitals', series, 'vitals', {
    'lighthouse_score': 'sum(r.lighthouse_score)', 'lighthouse_loads': 'sum(r.lighthouse_loads)',
    'accessibility_score': 'sum(r.accessibility_score)', 'accessibility_loads': 'sum(r.accessibility_loads)',
}, ['device'], ['week', 'month'], {
    'lighthouse_score': ['lighthouse_score', 'lighthouse_loads'],
    'accessibility_score': ['accessibility_score', 'accessibility_loads'],
}, at='load_hour') }}
union all
{{ metrics_of('setups', series, 'setups', {'calls': 'sum(r.calls)', 'succeeded': 'sum(r.succeeded)'}, ['integration'],
    ['day', 'week', 'month'], {
    'integration_success_rate': ['succeeded', 'calls'],
}, at='call_hour') }}
union all
{{ metrics_of('calls', series, 'calls', {'calls': 'sum(r.calls)', 'succeeded': 'sum(r.succeeded)'}, ['integration'], grains, {
    'integration_call_success_rate': ['succeeded', 'calls'],
}, at='call_hour') }}
