{# What a changed row touches in the models of visitors, where it is not derived (incremental/scopes.sql). #}

{# The windows are those of the funnels, which a home may have of its own. A stage that is seen for the first time is measured in the periods whose window
   was still open then, and in all since. #}
{% macro affected__funnel_stages() -%}
    {%- if execute -%}
        {{ affected_periods(windows=funnel_windows(), **period_scope(model)) }}
        union
        select grain, period_start
        from {{ ref('periods') }}
        where period_end > (select min(touched_at) from core.touched where fact = 'series_funnel_stages')
            - interval '{{ funnel_windows() | max }} days'
    {%- endif -%}
{%- endmacro %}

{# The windows, in days, that the funnels have. #}
{% macro funnel_windows() -%}
    {{ return(run_query('select distinct window_days from ' ~ ref('funnels') ~ ' order by 1').columns[0].values()) }}
{%- endmacro %}
