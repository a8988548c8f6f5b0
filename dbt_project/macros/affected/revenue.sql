{# What a changed row touches in the models of revenue, where it is not derived (incremental/scopes.sql). #}

{% macro affected__mrr_by_account() %}
    {%- set context = run_context() %}
    {{ derived_scope() }}
    union
    -- a month began: whoever pays has a row in it
    select account_id from {{ ref('account_mrr') }}
    where {{ start_of('month', "timestamptz '" ~ context.previous_as_of ~ "' - interval '1 microsecond'") }}
        < {{ start_of('month', "timestamptz '" ~ context.as_of ~ "' - interval '1 microsecond'") }}
{% endmacro %}

{% macro affected__metrics_revenue() %}
    {{ derived_scope() }}
    {% for grain in ['quarter', 'year'] %}
    union
    -- the last month of a quarter or a year gives its ltv
    select '{{ grain }}', {{ start_of(grain, 'period_start') }}
    from core.touched_periods where model = 'mrr_retention_by_period' and grain = 'month'
    union
    -- and another month is the last one when a month began
    select '{{ grain }}', {{ start_of(grain, 'period_start') }}
    from {{ ref('periods') }} where grain = 'month' and period_end > timestamptz '{{ run_context().previous_as_of }}'
    {% endfor %}
{% endmacro %}

{% macro affected__churn_reasons() %}
    select {{ start_of('month', 'touched_at') }}::date as month from core.touched where fact = 'mrr_movements'
    union
    select {{ start_of('month', 'movements.movement_date::timestamp') }}::date
    from {{ ref('mrr_movements') }} as movements
    inner join ({{ changed_rows('subscriptions') }}) as changed on movements.account_id = changed.account_id
    where movements.movement_type = 'churn'
{% endmacro %}
