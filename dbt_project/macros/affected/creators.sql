{# What a changed row touches in the creator models (see incremental.sql). #}

{% macro affected__creator_event_days() %}
    select distinct account_id, occurred_at::date as happened_on
    from ({{ changed_rows('events') }}) as changed
    where account_id is not null and event_name in ('creator.onboarding_completed', 'content.created', 'content.updated')
{% endmacro %}

{% macro affected__creators() %}
    {{ changed_keys('accounts', 'account_id') }}
    union
    {{ changed_keys('creator_event_days', 'account_id') }}
    union
    select creator_id from ({{ changed_rows('content_items') }}) as changed
    union
    select creator_id from ({{ changed_rows('conversations') }}) as changed
    where creator_id is not null
{% endmacro %}

{% macro affected__creator_features() %}
    {{ changed_keys('creators', 'account_id') }}
    union
    {{ changed_keys('feature_days', 'account_id') }}
{% endmacro %}

{% macro affected__creator_months() %}
    select creator_id from ({{ changed_rows('creator_earnings') }}) as changed
    union
    {{ changed_keys('accounts', 'account_id') }}
    union
    select earnings.creator_id
    from {{ source('staging', 'creator_earnings') }} as earnings
    inner join ({{ changed_rows('fx_rates') }}) as changed
        on changed.currency = earnings.currency and earnings.earned_on >= changed.rate_date
{% endmacro %}

{% macro affected__metrics_creators() %}
    {{ affected_periods(
        facts=['creators', 'creator_event_days', 'active_accounts', 'creator_months'], onward=['creator_features'],
        onward_changed={'content_items': ['created_at', 'archived_at']},
        upstream=['accounts_by_period'], series=['series_creators'], lags=['1 month'], open_changes=false
    ) }}
{% endmacro %}
