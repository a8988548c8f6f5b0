-- Grain: application, account_id, movement_date, movement_type. Changes of MRR, day by day.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'account_id', 'movement_date', 'movement_type'], affected_by=['account_id'],
    touches=['movement_date'], meta={'lookups': [['account_id']]},
    ordered_by=['account_id'], indexes=[{'columns': ['account_id']}]
) }}

with changes as (
    select * from {{ ref('account_mrr') }}
    where {{ only_affected('account_id') }}
),

movements as (
    select
        changed_on as movement_date,
        application,
        account_id,
        movement_type,
        movement_amount as amount_exact,
        mrr_before_at_rate as mrr_before,
        mrr_after,
        case when movement_type = 'churn' then plan_tier_before else plan_tier_after end as plan_tier,
        country,
        legal_entity,
        account_type
    from changes
    where movement_amount != 0
    union all
    select
        changed_on,
        application,
        account_id,
        'fx',
        fx_amount,
        mrr_before,
        mrr_before_at_rate,
        plan_tier_before,
        country,
        legal_entity,
        account_type
    from changes
    where fx_amount != 0
)

select
    movement_date,
    application,
    account_id,
    movement_type,
    {{ rounded('amount_exact') }} as amount,
    {{ rounded('mrr_before') }} as mrr_before,
    {{ rounded('mrr_after') }} as mrr_after,
    plan_tier,
    country,
    account_type,
    legal_entity,
    amount_exact
from movements
