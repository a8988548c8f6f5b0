{# What a changed row touches in the models of declared metrics, where it is not derived (incremental/scopes.sql). #}

{# the periods of its parts, and what they are compared with; all periods since a part's series begins earlier or later, for it is 0 from there on #}
{% macro affected__metrics_composed() %}
    {%- set upstream, series, onward, onward_changed = [], [], [], {} -%}
    {%- for unique_id in (model.depends_on.nodes if execute else []) if graph.nodes[unique_id].config.get('meta', {}).get('mart') == 'metric_points' -%}
        {%- set part = graph.nodes[unique_id] -%}
        {%- do upstream.append(part.name) -%}
        {%- for parent in part.depends_on.nodes if graph.nodes.get(parent) and graph.nodes[parent].config.get('touches') == ['first_at'] -%}
            {%- do series.append(graph.nodes[parent].name) -%}
        {%- endfor -%}
        {%- for name, rule in (part.config.get('scope_of') or {}).items() if rule == 'onward' -%}
            {%- do onward_changed.update({name[4:]: times_of(name[4:])}) if name.startswith('stg_') else onward.append(name) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ affected_periods(
        upstream=upstream, series=series, onward=onward, onward_changed=onward_changed, open_changes=false,
        lags=['1 hour', '1 day', '7 days', '1 month', '3 months', '12 months']
    ) }}
{% endmacro %}
