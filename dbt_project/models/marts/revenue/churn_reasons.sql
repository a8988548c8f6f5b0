-- Grain: application, month, cancel_reason. Accounts that churned in the month and the MRR that was lost with them, by the newest cancel_reason that
-- their subscription rows gave by that day.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'month', 'cancel_reason'], affected_by=['month'], indexes=[{'columns': ['month']}]
) }}

with churned as (
    select
        *,
        {{ start_of('month', 'movement_date::timestamp') }}::date as month
    from {{ ref('mrr_movements') }}
    where movement_type = 'churn'
),

reasons as (
    select
        churned.application,
        churned.account_id,
        churned.month,
        churned.amount_exact,
        coalesce(reason.cancel_reason, '(unknown)') as cancel_reason
    from churned
    left join lateral (
        select periods.cancel_reason
        from {{ ref('fct_subscription_periods') }} as periods
        where periods.account_id = churned.account_id
            and periods.application = churned.application
            and periods.cancel_reason is not null
            and periods.valid_from::date <= churned.movement_date
        order by periods.valid_from desc, periods.subscription_item_id
        limit 1
    ) as reason on true
    where {{ only_affected('churned.month') }}
)

select
    case when grouping(application) = 1 then 'all' else application end as application,
    month,
    cancel_reason,
    count(distinct account_id) as accounts,
    {{ rounded('-sum(amount_exact)') }} as mrr
from reasons
group by grouping sets ((application, month, cancel_reason), (month, cancel_reason))
