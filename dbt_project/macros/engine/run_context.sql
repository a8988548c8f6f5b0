{# What the run decided (northstar.runs.lifecycle.open_run): the models' only clock. A run hands it over in the environment, since its hundred models ask
   for it 140 times; whoever calls dbt by hand finds it in the warehouse. #}
{% macro run_context() %}
    {%- if not execute -%}
        {{ return({'run_id': 0, 'mode': 'nightly', 'as_of': '1970-01-01', 'previous_as_of': none, 'since_batch_id': 0, 'is_full': true, 'rules': {},
                   'restate_from': none, 'restate_to': none}) }}
    {%- endif -%}
    {%- set told = env_var('NORTHSTAR_RUN_CONTEXT', '') -%}
    {%- if told -%}{{ return(fromjson(told)) }}{%- endif -%}
    {%- set rows = run_query('select run_id, mode, as_of::text as as_of, previous_as_of::text as previous_as_of, since_batch_id, is_full, rules::text as rules, restate_from::text as restate_from, restate_to::text as restate_to from core.run_context').rows -%}
    {%- if rows | length == 0 -%}
        {{ exceptions.raise_compiler_error('no run is open: start it with `northstar run`, which sets as_of') }}
    {%- endif -%}
    {%- set row = rows[0] -%}
    {{ return({'run_id': row['run_id'], 'mode': row['mode'], 'as_of': row['as_of'], 'previous_as_of': row['previous_as_of'],
               'since_batch_id': row['since_batch_id'], 'is_full': row['is_full'], 'rules': fromjson(row['rules']),
               'restate_from': row['restate_from'], 'restate_to': row['restate_to']}) }}
{% endmacro %}

{# Whether the run that decided is still going: afterwards somebody builds or tests by hand. #}
{% macro is_run_under_way() -%}
    {{ return(run_query("select exists (select 1 from audit.runs join core.run_context using (run_id) where state = 'running') as yes").rows[0]['yes']) }}
{%- endmacro %}

{# A business rule of the home (northstar.base.settings), such as renewal_gap_days. #}
{% macro rule(name) -%}
    {{ run_context().rules.get(name, {
        'renewal_gap_days': 1, 'count_past_due': 'always', 'reporting_currency': 'USD', 'alert_confidence': 0.99, 'alert_smallest_base': 30, 'alert_smallest_change': 5,
        'alert_days': 90, 'first_weekday': 'monday', 'reporting_time_zone': 'UTC', 'fiscal_year_begins': 1,
    }.get(name)) }}
{%- endmacro %}

{# A rule that may differ by application, as a SQL expression: {"default": 0.8, "coaching": 0.7}. #}
{% macro rule_by_application(name, column, fallback) -%}
    {%- set values = run_context().rules.get(name, {'default': fallback}) -%}
    case {{ column }}
        {% for application, value in values.items() if application != 'default' -%}
            when '{{ application }}' then {{ "'" ~ value ~ "'" if value is string else value }}
        {% endfor -%}
        when null then null
        else {% set default = values.get('default', fallback) %}{{ "'" ~ default ~ "'" if default is string else default }}
    end
{%- endmacro %}
