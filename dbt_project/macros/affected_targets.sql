{# What a changed row touches in the models that judge (see incremental.sql). #}

{# an application whose first registration moves has other due dates #}
{% macro affected__target_periods() %}
    {%- set lags = [] -%}
    {%- for unit in ['hour', 'day', 'week', 'month', 'quarter'] -%}
        {%- for number in range(1, 9) -%}
            {%- do lags.append((number * 3) ~ ' months' if unit == 'quarter' else number ~ ' ' ~ unit) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ affected_periods(upstream=metric_parts(), series=['series_accounts'], lags=lags, open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_targets() %}
    {{ affected_periods(upstream=['target_periods'], series=['series_accounts'], open_changes=false) }}
{% endmacro %}
