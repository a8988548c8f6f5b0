-- Grain: event_id. Exposures to experiments, and the events that are an experiment's goal, with their visitor: the account, else
-- the account that next carries the same anonymous_id, else the anonymous_id.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=['event_id', 'visitor_id'],
    affected_by=['event_id'], touches=['occurred_at'], indexes=[{'columns': ['event_id'], 'unique': true}, {'columns': ['visitor_id']}]
) }}

with events as (
    {{ events_in_hours("date_trunc('hour', occurred_at)") }}
),

exposures as (
    select
        *,
        properties ->> 'experiment' as experiment,
        coalesce(properties ->> 'variant', '(unknown)') as variant,
        properties ->> 'goal' as goal
    from events
    where event_name = 'experiment.exposed' and properties ->> 'experiment' is not null
),

goals as (
    select goal from exposures
    {% if is_incremental() %}
    union
    select goal from {{ this }}
    where event_name = 'experiment.exposed'
    {% endif %}
),

chosen as (
    select
        event_id,
        event_name,
        occurred_at,
        application,
        account_id,
        anonymous_id,
        experiment,
        variant,
        goal
    from exposures
    where coalesce(account_id, anonymous_id) is not null and {{ only_affected('event_id') }}
    union all
    select
        event_id,
        event_name,
        occurred_at,
        application,
        account_id,
        anonymous_id,
        null,
        null,
        null
    from events
    where coalesce(account_id, anonymous_id) is not null
        and event_name in (select goal from goals)
        and event_name != 'experiment.exposed'
        and {{ only_affected('event_id') }}
)

select
    chosen.*,
    coalesce(chosen.account_id, later.account_id, chosen.anonymous_id) as visitor_id
from chosen
left join lateral (
    select links.account_id
    from {{ ref('identity_links') }} as links
    where links.anonymous_id = chosen.anonymous_id
        and links.last_at >= chosen.occurred_at
        and chosen.account_id is null
    order by greatest(links.first_at, chosen.occurred_at), links.account_id
    limit 1
) as later on true
