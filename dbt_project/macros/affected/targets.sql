{# What a changed row touches in the models of targets, where it is not derived (incremental/scopes.sql). #}

{# an application whose first registration moves has other due dates; a series that begins earlier or later has other zeros; and a period
   is judged once it is complete, which it becomes by the passing of time alone #}
{% macro affected__target_periods() %}
    {%- set lags = [] -%}
    {%- for unit in ['hour', 'day', 'week', 'month', 'quarter', 'year'] -%}
        {%- for number in range(1, 9) -%}
            {%- do lags.append((number * 3) ~ ' months' if unit == 'quarter' else number ~ ' ' ~ unit) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ affected_periods(
        upstream=metric_parts(), series=metric_series_models() + ['first_sightings'], lags=lags, windows=metric_windows(), open_changes=false
    ) }}
{% endmacro %}

{# a first judgement begins a series by every grain, and it may be in a stretch that was not measured #}
{% macro affected__metrics_targets() %}
    {{ affected_periods(
        upstream=['target_periods'], series=['series_accounts', 'first_sightings'], open_changes=false,
        touched=["select period_start as touched_at from core.touched_periods where model = 'target_periods'"]
    ) }}
{% endmacro %}

{# The windows, in days, that the catalogue's metrics have. #}
{% macro metric_windows() -%}
    {%- if not execute -%}{{ return([]) }}{%- endif -%}
    {{ return(run_query('select distinct window_days from ' ~ ref('metric_catalogue') ~ ' where window_days > 0 order by 1').columns[0].values()) }}
{%- endmacro %}
