-- Grain: mark_id. What the company's own rows say happened, to mark on charts: deployments that ended, incidents, and new prices of plans.
{{ config(time_dependent=false, unique_key='mark_id') }}

with deployments as (
    select
        'deployment:' || deployment_id as mark_id,
        'deployment' as kind,
        started_at as marked_at,
        recovered_at as ended_at,
        application,
        coalesce(service || ' ', '') || 'deployed: ' || replace(status, '_', ' ') as title
    from {{ ref('stg_deployments') }}
    where status != 'running'
),

incidents as (
    select
        'incident:' || incident_id as mark_id,
        'incident' as kind,
        started_at as marked_at,
        resolved_at as ended_at,
        application,
        'incident ' || incident_id || ' (' || severity || ')' as title
    from {{ ref('stg_incidents') }}
),

-- what an item was sold for when it began: later changes of it are its own
sold as (
    select distinct on (subscription_item_id)
        subscription_item_id,
        application,
        plan_id,
        currency,
        billing_interval,
        interval_count,
        valid_from,
        trim_scale(round(list_mrr_in_currency / quantity, 6)) as price
    from {{ ref('fct_subscription_periods') }}
    where list_mrr_in_currency > 0 and quantity > 0
    order by subscription_item_id, valid_from
),

-- one sale may be a deal; three at the same price are a price
prices as (
    select
        application,
        plan_id,
        currency,
        billing_interval,
        interval_count,
        price,
        min(valid_from) as priced_at
    from sold
    group by application, plan_id, currency, billing_interval, interval_count, price
    having count(*) >= 3
),

price_changes as (
    select
        *,
        lag(price) over (
            partition by application, plan_id, currency, billing_interval, interval_count order by priced_at, price
        ) as price_before
    from prices
),

price_marks as (
    select
        concat_ws(':', 'price', application, plan_id, currency, billing_interval, interval_count, price) as mark_id,
        'price_change' as kind,
        priced_at as marked_at,
        null::timestamptz as ended_at,
        application,
        plan_id || ' sold at ' || price || ' instead of ' || price_before || ' ' || currency || ' a month' as title
    from price_changes
    where price_before is not null
),

every_mark as (
    select * from deployments
    union all
    select * from incidents
    union all
    select * from price_marks
)

select
    mark_id,
    kind,
    marked_at,
    ended_at,
    coalesce(application, 'all') as application,
    title
from every_mark
