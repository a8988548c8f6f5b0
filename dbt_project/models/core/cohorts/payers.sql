-- Grain: application, source_application, account_id. Paying accounts with the month of their first MRR: within each application, and company-wide
-- (application 'all'), where an account belongs to the cohort of its first MRR in any application.
{{ config(materialized='view') }}

with first_payments as (
    select
        application,
        account_id,
        {{ start_of('month', 'movement_date::timestamp') }}::date as cohort_month
    from {{ ref('mrr_movements') }}
    where movement_type = 'new'
)

select
    application,
    application as source_application,
    account_id,
    cohort_month
from first_payments
union all
select
    'all' as application,
    first_payments.application as source_application,
    first_payments.account_id,
    min(first_payments.cohort_month) over (partition by first_payments.account_id) as cohort_month
from first_payments
