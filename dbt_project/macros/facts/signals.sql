{#
The facts that the signal metrics and their series share, one CTE each, without the `with`. facts: for the model of series, whose
touched rows decide where one begins; without it, the rows that count for the affected periods.
#}
{% macro signal_facts(facts=none, grains=none) -%}
    {%- set relations = {
        'requests': ['request_hours', 'request_hour', none],
        'api_requests': ['request_hours', 'request_hour', "service = 'api'"],
        'auth_requests': ['request_hours', 'request_hour', "service = 'auth'"],
        'own_probes': ['probe_hours', 'checked_hour', 'not is_third_party'],
        'third_party_probes': ['probe_hours', 'checked_hour', 'is_third_party'],
        'errors': ['error_hours', 'error_hour', "level in ('error', 'fatal')"],
        'resources': ['resource_hours', 'sampled_hour', none],
        'statements': ['query_hours', 'query_hour', none],
        'vitals': ['vital_hours', 'load_hour', none],
        'setups': ['integration_hours', 'call_hour', "kind = 'setup'"],
        'calls': ['integration_hours', 'call_hour', "kind = 'call'"],
    } -%}
    {%- for name, (model_name, at, condition) in relations.items() %}
{{ name }} as (
    select * from {{ ref(model_name) }}
    where {{ since_touched(facts, at) if facts else at_or_after_affected(at, grains=grains) }}{{ ' and ' ~ condition if condition }}
){{ ',' if not loop.last }}
    {% endfor -%}
{%- endmacro %}
