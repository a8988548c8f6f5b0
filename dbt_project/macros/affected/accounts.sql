{# What a changed row touches in the account models (see incremental.sql). #}

{% macro affected__accounts() %}
    select distinct account_id from ({{ changed_rows('accounts') }}) as changed
{% endmacro %}

{% macro affected__activation_days() %}
    select distinct account_id, occurred_at::date as activity_on
    from ({{ changed_rows('events') }}) as changed
    where account_id is not null and event_name in ('feature.used', 'tool.invoked', 'booking.requested')
{% endmacro %}

{% macro affected__dim_accounts() %}
    with changed_accounts as (
        select account_id from ({{ changed_rows('accounts') }}) as changed
    )

    select account_id from changed_accounts
    union
    select account_id from {{ ref('accounts') }}
    where referred_by_account_id in (select account_id from changed_accounts)
    union
    select account_id from ({{ changed_rows('subscriptions') }}) as changed
    union
    {{ changed_keys('activity_days', 'account_id') }}
    union
    {{ changed_keys('activation_days', 'account_id') }}
{% endmacro %}

{% macro affected__accounts_by_period() %}
    {{ affected_periods(onward=['accounts'], series=['series_accounts'], open_changes=false) }}
{% endmacro %}

{% macro affected__registrations_by_period() %}
    {{ affected_periods(facts=['dim_accounts'], series=['series_accounts'], open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_accounts() %}
    {{ affected_periods(
        upstream=['registrations_by_period', 'accounts_by_period'], series=['series_accounts'], lags=['1 month'],
        open_changes=false
    ) }}
{% endmacro %}

{% macro affected__metrics_acquisition_cost() %}
    {{ affected_periods(
        facts=['spend_days'], onward=['market_sizes'], series=['series_accounts', 'series_mrr', 'spend_days'],
        upstream=['mrr_movements_by_period', 'metrics_revenue', 'accounts_by_period'], lags=['12 months'], open_changes=false
    ) }}
{% endmacro %}
