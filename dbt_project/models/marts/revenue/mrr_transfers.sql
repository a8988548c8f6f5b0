-- Grain: application, account_id, transferred_on. MRR that an account took along from one plan_tier to another. That is no movement: the
-- account's MRR before it, at the day's rate, leaves the one tier and enters the other, in which the day's movement is counted.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'account_id', 'transferred_on'], affected_by=['account_id'],
    touches=['transferred_on'], meta={'lookups': [['account_id']]},
    ordered_by=['account_id'], indexes=[{'columns': ['account_id']}]
) }}

with changes as (
    select * from {{ ref('account_mrr') }}
    where {{ only_affected('account_id') }}
)

select
    changed_on as transferred_on,
    application,
    account_id,
    plan_tier_before as from_plan_tier,
    plan_tier_after as to_plan_tier,
    {{ rounded('mrr_before_at_rate') }} as amount,
    country,
    account_type,
    mrr_before_at_rate as amount_exact
from changes
where mrr_before > 0 and mrr_after > 0 and plan_tier_before is distinct from plan_tier_after
