{# Written by northstar.build.generate from metrics.yml. #}

{# The metrics that are counted, each with what it stands on (metric_needs). #}
{% macro counted_metrics() %}
    {{ return({
        'marketing_spend': ['marketing_spend'],
    }) }}
{% endmacro %}

{# The metrics that are composed, each with the metrics that it is made of. #}
{% macro composed_metrics() %}
    {{ return({
        'quick_ratio': ['new_mrr', 'expansion_mrr', 'reactivation_mrr', 'contraction_mrr', 'churned_mrr'],
        'cac_payback_months': ['cac', 'ltv'],
        'rule_of_40': ['mrr', 'paying_accounts', 'ltv', 'marketing_spend'],
        'magic_number': ['net_new_mrr', 'marketing_spend'],
        'burn_multiple': ['marketing_spend', 'cash_collected', 'net_new_mrr'],
        'cash_growth_rate': ['cash_collected'],
        'cash_growth_rate_constant_currency': ['cash_collected_constant_currency', 'cash_collected'],
    }) }}
{% endmacro %}
