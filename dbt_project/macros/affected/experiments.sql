{# What a changed row touches in the visitor and funnel models (see incremental.sql). #}

{% macro affected__funnel_events() %}
    select event_id, occurred_at from ({{ changed_rows('events') }}) as changed
{% endmacro %}

{% macro affected__identity_links() %}
    select distinct occurred_at::date as linked_on, anonymous_id
    from ({{ changed_rows('events') }}) as changed
    where anonymous_id is not null
{% endmacro %}

{% macro affected__visitor_events() %}
    {{ changed_keys('funnel_events', 'event_id') }}
    union
    select event_id from {{ ref('funnel_events') }}
    where anonymous_id in ({{ changed_keys('identity_links', 'anonymous_id') }})
{% endmacro %}

{% macro affected__metrics_visitors() %}
    {{ affected_periods(facts=['visitor_events'], series=['series_visitors'], open_changes=false) }}
{% endmacro %}

{% macro affected__funnel_entries() %}
    {{ changed_keys('visitor_events', 'visitor_id') }}
{% endmacro %}

{% macro affected__funnel_stages() %}
    {{ affected_periods(facts=['funnel_entries'], series=['series_funnels'], windows=[30, 90], open_changes=false) }}
{% endmacro %}

{% macro affected__churn_reasons() %}
    select date_trunc('month', touched_at)::date as month from core.touched where fact = 'mrr_movements'
    union
    select date_trunc('month', movements.movement_date::timestamp)::date
    from {{ ref('mrr_movements') }} as movements
    inner join ({{ changed_rows('subscriptions') }}) as changed on movements.account_id = changed.account_id
    where movements.movement_type = 'churn'
{% endmacro %}

{% macro affected__experiment_events() %}
    with changed_events as (
        {{ changed_rows('events') }}
    ),

    known_goals as (
        select distinct goal from {{ this }}
        where event_name = 'experiment.exposed'
    ),

    changed_goals as (
        select properties ->> 'goal' as goal from changed_events
        where event_name = 'experiment.exposed'
    ),

    new_goals as (
        select goal from changed_goals
        except
        select goal from known_goals
    )

    select event_id, occurred_at from changed_events
    where event_name = 'experiment.exposed'
        or event_name in (select goal from known_goals)
        or event_name in (select goal from new_goals)
        or (select true from {{ this }} as t where t.event_id = changed_events.event_id)
    union
    select event_id, occurred_at from {{ ref('stg_events') }}
    where event_name in (select goal from new_goals)
    union
    select event_id, occurred_at from {{ this }}
    where account_id is null and anonymous_id in ({{ changed_keys('identity_links', 'anonymous_id') }})
{% endmacro %}

{% macro affected__experiment_visitors() %}
    {{ changed_keys('experiment_events', 'visitor_id') }}
{% endmacro %}
