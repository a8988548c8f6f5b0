{# Written by northstar.build.generate from the files in models/core. #}

{# The models that make up metric_values, but for those that judge them. #}
{% macro metric_parts() %}
    {{ return([
        'metrics_accounts',
        'metrics_acquisition_cost',
        'metrics_activity',
        'metrics_ai',
        'metrics_community',
        'metrics_composed',
        'metrics_conversations',
        'metrics_counted',
        'metrics_creators',
        'metrics_engineering',
        'metrics_events',
        'metrics_marketplace',
        'metrics_payments',
        'metrics_percentiles',
        'metrics_revenue',
        'metrics_satisfaction',
        'metrics_sessions',
        'metrics_signals',
        'metrics_support',
        'metrics_visitors',
    ]) }}
{% endmacro %}

{# The models that say when series begin. #}
{% macro metric_series_models() %}
    {{ return([
        'series_accounts',
        'series_activity',
        'series_ai',
        'series_community',
        'series_conversations',
        'series_counted',
        'series_creators',
        'series_engineering',
        'series_events',
        'series_marketplace',
        'series_mrr',
        'series_payments',
        'series_retained_users',
        'series_satisfaction',
        'series_sessions',
        'series_signals',
        'series_support',
        'series_visitors',
    ]) }}
{% endmacro %}
