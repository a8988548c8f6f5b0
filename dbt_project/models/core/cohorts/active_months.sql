-- Grain: account_id, month. The calendar months in which an account was active, with its activity cohort.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=['account_id', 'month'],
    affected_by=['account_id', 'month'], touches=['month'],
    indexes=[{'columns': ['account_id', 'month']}, {'columns': ['month']}]
) }}

select
    accounts.account_id,
    date_trunc('month', days.activity_on::timestamp)::date as month,
    date_trunc('month', accounts.created_at)::date as cohort_month,
    accounts.application
from {{ ref('accounts') }} as accounts
inner join {{ rows_of_affected(ref('activity_days'), ['account_id']) }} as days
    on accounts.account_id = days.account_id
    and (accounts.deleted_at is null or days.first_at < accounts.deleted_at)
where {{ only_affected("days.account_id, date_trunc('month', days.activity_on::timestamp)::date") }}
group by 1, 2, 3, 4
