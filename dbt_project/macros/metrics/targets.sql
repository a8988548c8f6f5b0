{#
Judging a value by its target (SEMANTICS, Targets). Zones: green at or beyond `green`, red beyond `red`, yellow between; warning
and critical thresholds make yellow and red, and a missed target is never green; a row with a target alone is green or red.
#}

{# The models that make up metric_values, but for those that judge them. #}
{% macro metric_parts() %}
    {{ return([
        'metrics_payments', 'metrics_revenue', 'metrics_accounts', 'metrics_acquisition_cost', 'metrics_activity',
        'metrics_sessions', 'metrics_events', 'metrics_conversations', 'metrics_support', 'metrics_visitors', 'metrics_signals',
        'metrics_percentiles', 'metrics_marketplace', 'metrics_satisfaction', 'metrics_creators', 'metrics_engineering',
        'metrics_ai', 'metrics_community',
    ]) }}
{% endmacro %}

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
