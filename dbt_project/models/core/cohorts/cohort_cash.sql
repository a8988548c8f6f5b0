-- Grain: application, cohort_month, paid_month. Cash less refunds of a paying cohort in a month, times the gross margin.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['application', 'cohort_month', 'paid_month'],
    affected_by=['cohort_month', 'paid_month'], indexes=[{'columns': ['cohort_month', 'paid_month']}]
) }}

with cash as (
    select
        account_id,
        application,
        created_at,
        amount_reporting as amount
    from {{ ref('fct_payments') }}
    where status = 'succeeded' and not is_intercompany and {{ since_paid('created_at') }}
    union all
    select
        account_id,
        application,
        created_at,
        -amount_reporting
    from {{ ref('fct_refunds') }}
    where status = 'succeeded' and not is_intercompany and {{ since_paid('created_at') }}
)

select
    payers.application,
    payers.cohort_month,
    {{ start_of('month', 'cash.created_at') }}::date as paid_month,
    sum(cash.amount * {{ rule_by_application('gross_margin', 'cash.application', 0.8) }}) as margin
from {{ ref('payers') }} as payers
inner join cash on payers.account_id = cash.account_id and payers.source_application = cash.application
where {{ only_affected('payers.cohort_month, ' ~ start_of('month', 'cash.created_at') ~ '::date') }}
group by 1, 2, 3
