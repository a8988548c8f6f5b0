{# What a changed row touches in the models of cohorts, where it is not derived (incremental/scopes.sql). #}

{# The paying cohorts whose members changed: where a first MRR comes or goes, and where the account's other ones are, since it belongs
   to the company's cohort of the first of them. #}
{% macro touched_paying_cohorts() -%}
    select {{ start_of('month', 'touched_at') }}::date as cohort_month from core.touched where fact = 'mrr_movements'
    union
    select {{ start_of('month', 'movement_date::timestamp') }}::date
    from {{ ref('mrr_movements') }}
    where movement_type = 'new' and account_id in ({{ changed_keys('mrr_movements', 'account_id') }})
{%- endmacro %}

{# Cash of a touched month, whoever paid it, and all cash of a cohort whose members changed. #}
{% macro affected__cohort_cash() %}
    with cohorts as (
        select distinct {{ start_of('month', 'movement_date::timestamp') }}::date as cohort_month from {{ ref('mrr_movements') }}
        where movement_type = 'new'
    ),

    touched_cohorts as (
        {{ touched_paying_cohorts() }}
    )

    select distinct cohorts.cohort_month, {{ start_of('month', 'touched.touched_at') }}::date as paid_month
    from cohorts
    cross join core.touched as touched
    where touched.fact in ('fct_payments', 'fct_refunds')
    union
    select touched_cohorts.cohort_month, periods.period_start::date
    from touched_cohorts
    cross join {{ ref('periods') }} as periods
    where periods.grain = 'month'
{% endmacro %}

{# Cells of a touched month, cells of a cohort whose members changed, and all cells since: for cash, which accumulates, and where something was seen for the
   first time, or not after all. #}
{% macro affected__cohort_retention() %}
    {%- set context = run_context() %}
    with months as (
        select period_start as month, period_end from {{ ref('periods') }} where grain = 'month'
    ),

    touched_months as (
        select {{ start_of('month', 'touched_at') }} as month from core.touched where fact in ('active_months', 'mrr_by_account')
        union
        select month from months
        where month >= (
            select {{ start_of('month', 'min(touched_at)') }} from core.touched where fact in ('fct_payments', 'fct_refunds', 'first_sightings')
        )
        union
        select month from months where period_end > timestamptz '{{ context.previous_as_of }}'
            and (period_end <= timestamptz '{{ context.as_of }}' or month >= timestamptz '{{ context.previous_as_of }}')
    ),

    touched_cohorts as (
        select {{ start_of('month', 'touched_at') }}::date as month from core.touched where fact = 'accounts'
        union
        {{ touched_paying_cohorts() }}
    )

    select distinct cohorts.month::date as cohort_month, months.month::date as month
    from months as cohorts
    inner join months on cohorts.month <= months.month
    where months.month in (select month from touched_months) or cohorts.month in (select month from touched_cohorts)
{% endmacro %}

{# Keeps what was paid in an affected month or later, read through the index on its time. #}
{% macro since_paid(column) -%}
    {%- if is_incremental() -%}{{ column }} >= (select min(paid_month) from affected_cohort_cash){%- else -%}true{%- endif -%}
{%- endmacro %}
