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
