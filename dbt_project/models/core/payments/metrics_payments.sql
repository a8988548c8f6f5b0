-- Grain: metric_id, grain, period_start, application, segment, segment_value. Cash, payments and their failures.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set measures = {
    'charged': 'sum(r.charged)',
    'refunded': 'sum(r.refunded)',
    'collected_at_earlier_rate': 'sum(r.collected_at_earlier_rate)',
    'succeeded': 'sum(r.succeeded)',
    'failed': 'sum(r.failed)',
    'retries': 'sum(r.retries)',
    'failed_first': 'sum(r.failed_first)',
    'recovered': 'sum(r.recovered)',
} %}

with flows as (
    select * from {{ ref('cash_flows') }}
    where {{ at_or_after_affected('happened_at') }}
),

series as (
    select * from {{ ref('series_payments') }}
),

measured as (
    {{ cube('flows', measures, ['country', 'failure_code']) }}
),

-- a failure code's rate is its share of all attempts: among its own every one failed, and it is 0 where none had it
attempted as (
    {{ measured('flows', {'all_attempts': 'sum(r.succeeded + r.failed)'}) }}
    select
        grain,
        period_start,
        application,
        succeeded + failed as all_attempts
    from measured
    where segment = ''
),

attempted_by_code as (
    select
        attempted.grain,
        attempted.period_start,
        attempted.application,
        series.segment,
        series.segment_value,
        attempted.all_attempts
    from attempted
    inner join series on attempted.application = series.application and series.segment in ('', 'failure_code')
),

placed as (
    {{ in_series({'measured': measures, 'attempted_by_code': ['all_attempts']}, 'series') }}
)

{{ metric_rows('placed', {
    'cash_collected': ['coalesce(charged, 0) - coalesce(refunded, 0)', none],
    'cash_collected_constant_currency': ['coalesce(collected_at_earlier_rate, 0)', none],
    'refund_rate': ['refunded', 'charged'],
    'payment_success_rate': ['succeeded', 'succeeded + failed'],
    'payment_failure_rate': ['failed', "case when segment = 'failure_code' then all_attempts else succeeded + failed end"],
    'payment_recovery_rate': ['recovered', 'failed_first'],
    'payment_retries': ['retries', none],
}) }}
