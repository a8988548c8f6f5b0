-- Grain: metric_id, grain, period_start, application, segment, segment_value. Metrics made of other metrics. Written by northstar.build.generate from metrics.yml.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set quick_ratio_parts = {
    'new_mrr': {'metric': 'new_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'expansion_mrr': {'metric': 'expansion_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'reactivation_mrr': {'metric': 'reactivation_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'contraction_mrr': {'metric': 'contraction_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'churned_mrr': {'metric': 'churned_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
} %}
{% set cac_payback_months_parts = {
    'cac': {'metric': 'cac', 'column': 'value', 'formula': rounded('numerator / nullif(denominator, 0)'), 'before': '', 'is_counted': false},
    'ltv_numerator': {'metric': 'ltv', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
} %}
{% set rule_of_40_parts = {
    'mrr': {'metric': 'mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'mrr_year_before': {'metric': 'mrr', 'column': 'numerator', 'formula': 'numerator', 'before': 'year_before', 'is_counted': true},
    'paying_accounts': {'metric': 'paying_accounts', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'ltv_numerator': {'metric': 'ltv', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'marketing_spend': {'metric': 'marketing_spend', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
} %}
{% set magic_number_parts = {
    'net_new_mrr': {'metric': 'net_new_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'marketing_spend_previous': {'metric': 'marketing_spend', 'column': 'numerator', 'formula': 'numerator', 'before': 'previous', 'is_counted': true},
} %}
{% set burn_multiple_parts = {
    'marketing_spend': {'metric': 'marketing_spend', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'cash_collected': {'metric': 'cash_collected', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'net_new_mrr': {'metric': 'net_new_mrr', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
} %}
{% set cash_growth_rate_parts = {
    'cash_collected': {'metric': 'cash_collected', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'cash_collected_year_before': {'metric': 'cash_collected', 'column': 'numerator', 'formula': 'numerator', 'before': 'year_before', 'is_counted': true},
} %}
{% set cash_growth_rate_constant_currency_parts = {
    'cash_collected_constant_currency': {'metric': 'cash_collected_constant_currency', 'column': 'numerator', 'formula': 'numerator', 'before': '', 'is_counted': true},
    'cash_collected_year_before': {'metric': 'cash_collected', 'column': 'numerator', 'formula': 'numerator', 'before': 'year_before', 'is_counted': true},
} %}

with parts as (
    {{ rows_of_metrics('metrics_acquisition_cost', ['cac']) }}
    union all
    {{ rows_of_metrics('metrics_counted', ['marketing_spend']) }}
    union all
    {{ rows_of_metrics('metrics_payments', ['cash_collected', 'cash_collected_constant_currency']) }}
    union all
    {{ rows_of_metrics('metrics_revenue', ['new_mrr', 'expansion_mrr', 'reactivation_mrr', 'contraction_mrr', 'churned_mrr', 'ltv', 'mrr', 'paying_accounts', 'net_new_mrr']) }}
),

quick_ratio_by_period as (
    {{ side_by_side('parts', quick_ratio_parts, [], ['month', 'quarter', 'year']) }}
),

cac_payback_months_by_period as (
    {{ side_by_side('parts', cac_payback_months_parts, [], ['month']) }}
),

rule_of_40_by_period as (
    {{ side_by_side('parts', rule_of_40_parts, [], ['month']) }}
),

magic_number_by_period as (
    {{ side_by_side('parts', magic_number_parts, [], ['quarter']) }}
),

burn_multiple_by_period as (
    {{ side_by_side('parts', burn_multiple_parts, [], ['month', 'quarter', 'year']) }}
),

cash_growth_rate_by_period as (
    {{ side_by_side('parts', cash_growth_rate_parts, ['country'], ['month', 'quarter', 'year']) }}
),

cash_growth_rate_constant_currency_by_period as (
    {{ side_by_side('parts', cash_growth_rate_constant_currency_parts, ['country'], ['month', 'quarter', 'year']) }}
)

select * from ({{ metric_rows('quick_ratio_by_period', {
    'quick_ratio': ["new_mrr + expansion_mrr + reactivation_mrr", "-(contraction_mrr + churned_mrr)", {'parts': quick_ratio_parts}],
}) }}) as quick_ratio_rows

union all
select * from ({{ metric_rows('cac_payback_months_by_period', {
    'cac_payback_months': ["cac", "case when (cac) is not null then ltv_numerator end", {'parts': cac_payback_months_parts}],
}) }}) as cac_payback_months_rows

union all
select * from ({{ metric_rows('rule_of_40_by_period', {
    'rule_of_40': ["100 * (mrr - mrr_year_before) / nullif(mrr_year_before, 0) + 100 * (paying_accounts * ltv_numerator - marketing_spend) / nullif(mrr, 0)", none, {'parts': rule_of_40_parts, 'null_reason': "case when mrr_year_before is null then 'no_earlier_value' else 'empty_base' end"}],
}) }}) as rule_of_40_rows

union all
select * from ({{ metric_rows('magic_number_by_period', {
    'magic_number': ["12 * net_new_mrr", "marketing_spend_previous", {'parts': magic_number_parts, 'null_reason': "case when marketing_spend_previous is null then 'no_earlier_value' else 'empty_base' end"}],
}) }}) as magic_number_rows

union all
select * from ({{ metric_rows('burn_multiple_by_period', {
    'burn_multiple': ["marketing_spend - cash_collected", "case when net_new_mrr > 0 then 12 * net_new_mrr end", {'parts': burn_multiple_parts}],
}) }}) as burn_multiple_rows

union all
select * from ({{ metric_rows('cash_growth_rate_by_period', {
    'cash_growth_rate': ["cash_collected - cash_collected_year_before", "case when (cash_collected - cash_collected_year_before) is not null then cash_collected_year_before end", {'parts': cash_growth_rate_parts, 'null_reason': "case when cash_collected_year_before is null then 'no_earlier_value' else 'empty_base' end"}],
}) }}) as cash_growth_rate_rows

union all
select * from ({{ metric_rows('cash_growth_rate_constant_currency_by_period', {
    'cash_growth_rate_constant_currency': ["cash_collected_constant_currency - cash_collected_year_before", "case when (cash_collected_constant_currency - cash_collected_year_before) is not null then cash_collected_year_before end", {'parts': cash_growth_rate_constant_currency_parts, 'null_reason': "case when cash_collected_year_before is null then 'no_earlier_value' else 'empty_base' end"}],
}) }}) as cash_growth_rate_constant_currency_rows
