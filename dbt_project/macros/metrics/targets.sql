{#
Judging a value by its target (docs/semantics.md, Targets). Zones: green at or beyond `green`, red beyond `red`, yellow between; warning
and critical thresholds make yellow and red, and a missed target is never green; a row with a target alone is green or red.
#}

{% macro target_met(t, value) -%}
    case {{ t }}.operator
        when '>' then {{ value }} > {{ t }}.target
        when '>=' then {{ value }} >= {{ t }}.target
        when '<' then {{ value }} < {{ t }}.target
        when '<=' then {{ value }} <= {{ t }}.target
    end
{%- endmacro %}

{# Whether `value` lies on the wrong side of a threshold; the threshold itself does not. #}
{% macro beyond(t, value, threshold) -%}
    case when {{ t }}.operator in ('>', '>=') then {{ value }} < {{ threshold }} else {{ value }} > {{ threshold }} end
{%- endmacro %}

{% macro target_zone(t, value, mean, deviation, periods) -%}
    case
        when {{ value }} is null then 'unknown'
        when {{ t }}.trend is not null and {{ periods }} < 8 then 'unknown'
        when {{ t }}.trend in ('rise', 'spike') then case when {{ value }} > {{ mean }} + 3 * {{ deviation }} then 'red' else 'green' end
        when {{ t }}.trend = 'drop' then case when {{ value }} < {{ mean }} - 3 * {{ deviation }} then 'red' else 'green' end
        when {{ t }}.green is not null or {{ t }}.red is not null then case
            when {{ beyond(t, value, t ~ '.red') }} then 'red'
            when {{ beyond(t, value, t ~ '.green') }} then 'yellow'
            else 'green'
        end
        when {{ t }}.warning is not null or {{ t }}.critical is not null then case
            when {{ beyond(t, value, t ~ '.critical') }} then 'red'
            when {{ beyond(t, value, t ~ '.warning') }} or not {{ target_met(t, value) }} then 'yellow'
            else 'green'
        end
        when {{ target_met(t, value) }} then 'green'
        else 'red'
    end
{%- endmacro %}

{# The metrics whose denominator counts nothing, so that it says nothing of chance: money, rates of other rates, and what is made of other metrics. #}
{% macro without_a_counted_base() -%}
    ('mrr_growth_rate', 'mrr_growth_rate_constant_currency', 'creator_acquisition_growth_rate', 'mau_growth_rate', 'cac_change_rate', 'ltv_growth_rate', 'registration_growth_rate',
    'creator_revenue_growth_rate', 'international_revenue_share', 'gross_revenue_retention', 'net_revenue_retention', 'price_realisation',
    'market_share', 'ltv', 'ltv_cac_ratio'{% for metric_id in composed_metrics() %}, '{{ metric_id }}'{% endfor %})
{%- endmacro %}

{# What a missed target of a metric is a sign of: alerts of one cause are one alert. The rules on landed rows name the same causes
   (northstar.use.alerts, rules.yml). #}
{% macro alert_causes() -%}
    {{ return({
        'availability': ['uptime', 'error_rate', 'critical_error_rate', 'third_party_uptime'],
        'integrations': ['integration_call_success_rate'],
        'errors': ['application_errors'],
        'speed': ['api_response_time', 'api_response_time_p50', 'api_response_time_p95', 'api_response_time_p99', 'auth_response_time',
                  'peak_hour_response_time_p95', 'query_time', 'cpu_utilisation', 'memory_utilisation', 'lcp', 'tti'],
        'logins': ['auth_success_rate', 'failed_logins'],
        'security': ['security_breaches', 'security_incidents'],
        'payments': ['payment_failure_rate', 'payment_success_rate'],
        'support': ['ticket_volume', 'first_response_time', 'resolution_time', 'escalation_time', 'first_contact_resolution_rate',
                    'self_service_rate', 'first_response_business_time', 'resolution_business_time', 'escalation_business_time'],
        'satisfaction': ['csat', 'support_csat', 'nps', 'nps_mean_score'],
        'churn': ['customer_churn_rate', 'user_churn_rate', 'user_retention_rate'],
        'conversion': ['signup_to_paid_conversion_rate'],
        'vulnerabilities': ['critical_vulnerabilities', 'high_vulnerabilities'],
    }) }}
{%- endmacro %}

{% macro alert_cause(metric_id) -%}
    case
        {%- for cause, metrics in alert_causes().items() %}
        when {{ metric_id }} in ('{{ metrics | join("', '") }}') then '{{ cause }}'
        {%- endfor %}
        else {{ metric_id }}
    end
{%- endmacro %}
