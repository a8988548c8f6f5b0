{# What a changed row touches in the revenue models (see incremental.sql). #}

{% macro affected__fct_subscription_periods() %}
    select distinct account_id from ({{ changed_rows('subscriptions') }}) as changed
{% endmacro %}

{% macro affected__account_mrr() %}
    select account_id from ({{ changed_rows('subscriptions') }}) as changed
    union
    select account_id from ({{ changed_rows('accounts') }}) as changed
    union
    select subscriptions.account_id
    from {{ source('staging', 'subscriptions') }} as subscriptions
    inner join ({{ changed_rows('fx_rates') }}) as changed
        on subscriptions.currency = changed.currency
        and coalesce(subscriptions.valid_to, 'infinity') >= changed.rate_date::timestamptz
{% endmacro %}

{% macro affected__mrr_movements() %}
    {{ changed_keys('account_mrr', 'account_id') }}
{% endmacro %}

{% macro affected__mrr_by_account() %}
    {{ changed_keys('account_mrr', 'account_id') }}
    {%- set context = run_context() %}
    union
    -- a month began: whoever pays has a row in it
    select account_id from {{ ref('account_mrr') }}
    where date_trunc('month', timestamptz '{{ context.previous_as_of }}' - interval '1 microsecond')
        < date_trunc('month', timestamptz '{{ context.as_of }}' - interval '1 microsecond')
{% endmacro %}

{% macro affected__mrr_by_period() %}
    {{ affected_periods(onward=['account_mrr'], series=['series_mrr'], open_changes=false) }}
{% endmacro %}

{% macro affected__mrr_movements_by_period() %}
    {{ affected_periods(facts=['mrr_movements'], series=['series_mrr'], open_changes=false) }}
{% endmacro %}

{% macro affected__mrr_retention_by_period() %}
    {{ affected_periods(facts=['mrr_by_account'], series=['series_mrr'], lags=['1 month', '2 months'], open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_revenue() %}
    {{ affected_periods(
        upstream=['mrr_by_period', 'mrr_movements_by_period', 'mrr_retention_by_period'], lags=['12 months'],
        series=['series_mrr'], open_changes=false
    ) }}
    union
    -- the last month of a quarter gives its ltv
    select 'quarter', date_trunc('quarter', period_start)
    from core.touched_periods where model = 'mrr_retention_by_period' and grain = 'month'
    union
    -- and another month is the last one when a month began
    select 'quarter', date_trunc('quarter', period_start)
    from {{ ref('periods') }} where grain = 'month' and period_end > timestamptz '{{ run_context().previous_as_of }}'
{% endmacro %}
