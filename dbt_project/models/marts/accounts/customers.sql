-- Grain: account_id. How each account stands at as_of: what it pays and since when, what failed or is open, and its health.
{{ config(unique_key='account_id') }}

with accounts as (
    select * from {{ ref('dim_accounts') }}
),

mrr as (
    select
        account_id,
        min(application) as application,
        max(country) as country,
        max(account_type) as account_type,
        sum(mrr_after) as mrr_exact,
        -- of several applications, that of the largest
        (array_agg(plan_tier_after order by mrr_after desc, application))[1] as plan_tier
    from {{ ref('account_mrr') }}
    where next_changed_on is null and mrr_after > 0
    group by account_id
),

movements as (
    select
        account_id,
        min(application) as application,
        max(movement_date) filter (where movement_type = 'contraction') as last_contraction_on
    from {{ ref('mrr_movements') }}
    group by account_id
),

payments as (
    select
        account_id,
        min(application) as application,
        max(country) as country,
        min(created_at) filter (where status = 'succeeded') as first_paid_at,
        count(distinct payment_id) filter (where status = 'failed' and not is_payment_collected) as failed_payments,
        max(created_at) filter (where status = 'failed' and not is_payment_collected) as last_failed_payment_at
    from {{ ref('fct_payments') }}
    where account_id is not null and not is_intercompany
    group by account_id
),

tickets as (
    select
        account_id,
        count(*) as open_tickets,
        min(created_at) as oldest_open_ticket_at
    from {{ ref('fct_tickets') }}
    where is_open and account_id is not null
    group by account_id
),

-- who pays is a customer, whether or not its account has landed
ids as (
    select account_id from accounts
    union
    select account_id from movements
    union
    select account_id from payments
),

measured as (
    select distinct application from accounts
    where last_active_at is not null
),

standing as (
    select
        ids.account_id,
        coalesce(accounts.application, movements.application, payments.application) as application,
        coalesce(accounts.account_type, mrr.account_type) as account_type,
        coalesce(accounts.country, mrr.country, payments.country) as country,
        accounts.created_at,
        accounts.deleted_at,
        coalesce(mrr.mrr_exact, 0) as mrr_exact,
        mrr.plan_tier,
        movements.account_id is not null as has_had_mrr,
        payments.first_paid_at,
        accounts.last_active_at,
        coalesce(tickets.open_tickets, 0) as open_tickets,
        tickets.oldest_open_ticket_at,
        coalesce(payments.failed_payments, 0) as failed_payments,
        payments.last_failed_payment_at,
        movements.last_contraction_on,
        -- where nobody's activity has landed, nobody is inactive
        measured.application is not null as is_activity_measured
    from ids
    left join accounts on ids.account_id = accounts.account_id
    left join mrr on ids.account_id = mrr.account_id
    left join movements on ids.account_id = movements.account_id
    left join payments on ids.account_id = payments.account_id
    left join tickets on ids.account_id = tickets.account_id
    left join measured on accounts.application = measured.application
),

signs as (
    select
        *,
        case when last_failed_payment_at >= {{ as_of() }} - interval '30 days' then 'payment failed' end as failed,
        case
            when is_activity_measured and coalesce(last_active_at, created_at) < {{ as_of() }} - interval '30 days' then 'not active'
        end as inactive,
        case when last_contraction_on >= ({{ as_of() }} - interval '90 days')::date then 'pays less' end as reduced,
        case when oldest_open_ticket_at < {{ as_of() }} - interval '7 days' then 'ticket open' end as waiting
    from standing
)

select
    account_id,
    application,
    account_type,
    country,
    created_at,
    deleted_at,
    case
        when mrr_exact > 0 then 'paying'
        when deleted_at is not null then 'deleted'
        when has_had_mrr then 'churned'
        when first_paid_at is not null then 'buyer'
        else 'free'
    end as status,
    {{ rounded('mrr_exact') }} as mrr,
    mrr_exact,
    plan_tier,
    first_paid_at,
    last_active_at,
    open_tickets,
    oldest_open_ticket_at,
    failed_payments,
    last_failed_payment_at,
    last_contraction_on,
    case
        when mrr_exact = 0 then null
        when num_nonnulls(failed, inactive, reduced, waiting) = 0 then 'well'
        when num_nonnulls(failed, inactive, reduced, waiting) = 1 then 'watch'
        else 'at_risk'
    end as health,
    case when mrr_exact > 0 then concat_ws(', ', failed, inactive, reduced, waiting) end as health_signs
from signs
