{# What a changed row touches in the models of visitors, where it is not derived (incremental/scopes.sql). #}

{# the windows are those of the funnels, which a home may have of its own #}
{% macro affected__funnel_stages() -%}
    {%- if execute -%}
        {{ affected_periods(windows=funnel_windows(), **period_scope(model)) }}
    {%- endif -%}
{%- endmacro %}

{# The windows, in days, that the funnels have. #}
{% macro funnel_windows() -%}
    {{ return(run_query('select distinct window_days from ' ~ ref('funnels') ~ ' order by 1').columns[0].values()) }}
{%- endmacro %}
