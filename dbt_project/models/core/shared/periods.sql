-- Grain: grain, period_start. Every period from the first landed row up to as_of; the last of each grain is still open.
with starts as (
    select min(event_hour) as started_at from {{ ref('event_hours') }}
    union all
    select min(created_at) from {{ ref('accounts') }}
    union all
    select min(valid_from) from {{ ref('stg_subscriptions') }}
    union all
    select min(created_at) from {{ ref('stg_charges') }}
    union all
    select min(created_at) from {{ ref('stg_refunds') }}
    union all
    select min(created_at) from {{ ref('stg_tickets') }}
    union all
    select min(started_at) from {{ ref('stg_conversations') }}
    union all
    select min(sent_at) from {{ ref('stg_messages') }}
    union all
    select min(spend_date)::timestamptz from {{ ref('stg_marketing_spend') }}
),

history as (
    select min(started_at) as first_at from starts
),

grains (grain, step) as (
    values
    ('hour', interval '1 hour'),
    ('day', interval '1 day'),
    ('week', interval '1 week'),
    ('month', interval '1 month'),
    ('quarter', interval '3 months')
)

select
    grains.grain,
    period_start,
    period_start + grains.step as period_end
from history
cross join grains
cross join lateral generate_series(
    date_trunc(grains.grain, history.first_at), {{ as_of() }} - interval '1 microsecond', grains.step
) as period_start
