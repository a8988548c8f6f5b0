-- Grain: need, application. When what metrics stand on (metric_needs) was first seen in each application; 'all' is the company.
{{ config(
    materialized='incremental', unique_key=['need', 'application'], touches=['first_at']
) }}
{% set relations = {} %}
{% for need in needs() %}
    {% do relations.setdefault(need.relation, []).append(need) %}
{% endfor %}

with activity_by_account as (
    select
        coalesce(home_application, application) as application,
        activity_on
    from {{ ref('active_accounts') }}
),

activations as (
    select
        accounts.application,
        days.first_at
    from {{ ref('activation_days') }} as days
    inner join {{ ref('accounts') }} as accounts on days.account_id = accounts.account_id
),

creator_events as (
    select
        creators.application,
        days.event_name,
        days.first_at
    from {{ ref('creator_event_days') }} as days
    inner join {{ ref('creators') }} as creators on days.account_id = creators.account_id
),

creator_items as (
    select
        creators.application,
        items.created_at
    from {{ ref('stg_content_items') }} as items
    inner join {{ ref('creators') }} as creators on items.creator_id = creators.account_id
),

creator_conversations as (
    select
        creators.application,
        conversations.started_at
    from {{ ref('stg_conversations') }} as conversations
    inner join {{ ref('creators') }} as creators on conversations.creator_id = creators.account_id
),

subscribers as (
    select
        accounts.application,
        subscriptions.valid_from
    from {{ ref('stg_subscriptions') }} as subscriptions
    inner join {{ ref('accounts') }} as accounts on subscriptions.account_id = accounts.account_id
),

referrers as (
    select
        referrer_application as application,
        created_at
    from {{ ref('dim_accounts') }}
    where referrer_application is not null
),

seen as (
    {% for relation, needs in relations.items() %}
    select
        sightings.need,
        counted.application,
        sightings.first_at
    from (
        select
            application,
            {% for need in needs %}
            min(({{ need.time }})::timestamptz) filter (where {{ need.condition }}) as need_{{ loop.index }}{{ ',' if not loop.last }}
            {% endfor %}
        from {{ relation if relation in ('activity_by_account', 'activations', 'creator_events', 'creator_items', 'creator_conversations', 'referrers', 'subscribers') else ref(relation) }}
        where application != 'all'
        group by application
    ) as counted
    cross join lateral (values
        {% for need in needs %}
        ('{{ need.need }}', counted.need_{{ loop.index }}){{ ',' if not loop.last }}
        {% endfor %}
    ) as sightings (need, first_at)
    where sightings.first_at is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    need,
    case when grouping(application) = 1 then 'all' else application end as application,
    min(first_at) as first_at
from seen
group by grouping sets ((need, application), (need))
