{# What a changed row touches in the activity models (see incremental.sql). #}

{% macro affected__activity_days() %}
    select distinct account_id, occurred_at::date as activity_on
    from ({{ changed_rows('events') }}) as changed
    where account_id is not null
{% endmacro %}

{% macro affected__feature_days() %}
    select distinct account_id, occurred_at::date as used_on
    from ({{ changed_rows('events') }}) as changed
    where account_id is not null and event_name = 'feature.used'
{% endmacro %}

{% macro affected__active_accounts() %}
    {{ changed_keys('activity_days', 'account_id, activity_on') }}
    union
    select account_id, activity_on
    from {{ ref('activity_days') }}
    where account_id in ({{ changed_keys('accounts', 'account_id') }})
{% endmacro %}

{% macro affected__active_by_period() %}
    {{ affected_periods(facts=['active_accounts', 'feature_days', 'accounts'], series=['series_activity'], open_changes=false) }}
{% endmacro %}

{% macro affected__retained_users_by_period() %}
    {{ affected_periods(facts=['active_months'], series=['series_retained_users'], lags=['1 month'], open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_activity() %}
    {{ affected_periods(
        upstream=['active_by_period', 'retained_users_by_period', 'accounts_by_period'], lags=['1 month'],
        series=['series_activity', 'series_retained_users']
    ) }}
{% endmacro %}
