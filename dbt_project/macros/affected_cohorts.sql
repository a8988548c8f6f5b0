{# What a changed row touches in the cohort models (see incremental.sql). #}

{% macro affected__active_months() %}
    {{ changed_keys('activity_days', "account_id, date_trunc('month', activity_on::timestamp)::date as month") }}
    union
    select account_id, date_trunc('month', activity_on::timestamp)::date
    from {{ ref('activity_days') }}
    where account_id in (select account_id from ({{ changed_rows('accounts') }}) as changed)
{% endmacro %}

{# Cells of a touched month, cells of a cohort whose members changed, and, for cash that accumulates, all cells since. #}
{% macro affected__cohort_retention() %}
    {%- set context = run_context() %}
    with months as (
        select period_start as month, period_end from {{ ref('periods') }} where grain = 'month'
    ),

    touched_months as (
        select date_trunc('month', touched_at) as month from core.touched where fact in ('active_months', 'mrr_by_account')
        union
        select month from months
        where month >= (
            select date_trunc('month', min(touched_at)) from core.touched where fact in ('fct_payments', 'fct_refunds')
        )
        union
        select month from months where period_end > timestamptz '{{ context.previous_as_of }}'
            and (period_end <= timestamptz '{{ context.as_of }}' or month >= timestamptz '{{ context.previous_as_of }}')
    ),

    touched_cohorts as (
        select date_trunc('month', touched_at) as month from core.touched where fact in ('accounts', 'mrr_movements')
    )

    select distinct cohorts.month::date as cohort_month, months.month::date as month
    from months as cohorts
    inner join months on cohorts.month <= months.month
    where months.month in (select month from touched_months) or cohorts.month in (select month from touched_cohorts)
{% endmacro %}
