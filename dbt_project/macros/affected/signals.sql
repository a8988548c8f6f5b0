{# What a changed row touches in the signal models (see incremental.sql). #}

{% macro changed_windows(entity, time, column) -%}
    select distinct date_trunc('hour', {{ time }}) as {{ column }} from ({{ changed_rows(entity) }}) as changed
{%- endmacro %}

{% macro affected__request_hours() %}{{ changed_windows('api_requests', 'occurred_at', 'request_hour') }}{% endmacro %}

{% macro affected__request_peaks() %}{{ changed_windows('api_requests', 'occurred_at', 'request_hour') }}{% endmacro %}

{% macro affected__probe_hours() %}{{ changed_windows('uptime_checks', 'checked_at', 'checked_hour') }}{% endmacro %}

{% macro affected__error_hours() %}{{ changed_windows('error_events', 'occurred_at', 'error_hour') }}{% endmacro %}

{% macro affected__resource_hours() %}{{ changed_windows('resource_samples', 'sampled_at', 'sampled_hour') }}{% endmacro %}

{% macro affected__query_hours() %}{{ changed_windows('query_stats', 'window_start', 'query_hour') }}{% endmacro %}

{% macro affected__vital_hours() %}{{ changed_windows('web_vitals', 'occurred_at', 'load_hour') }}{% endmacro %}

{% macro affected__integration_hours() %}{{ changed_windows('integration_calls', 'occurred_at', 'call_hour') }}{% endmacro %}

{% macro affected__metrics_signals() %}
    {{ affected_periods(
        facts=['request_hours', 'probe_hours', 'error_hours', 'resource_hours', 'query_hours', 'vital_hours', 'integration_hours'],
        series=['series_signals'], open_changes=false
    ) }}
{% endmacro %}

{% macro affected__metrics_percentiles() %}
    {{ affected_periods(
        changed={'api_requests': ['occurred_at'], 'web_vitals': ['occurred_at']}, series=['series_signals'], open_changes=false
    ) }}
{% endmacro %}
