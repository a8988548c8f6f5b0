-- Grain: metric_id, grain, period_start, application, segment, segment_value. Metrics that count or sum rows. Written by northstar.build.generate from metrics.yml.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set series = ref('series_counted') %}

with marketing_spend_facts as (
    select
        application,
        channel,
        amount_reporting as measured,
        spend_on::timestamptz as happened_at
    from {{ ref('spend_days') }}
    where spend_on is not null and {{ at_or_after_affected('spend_on', grains=['day', 'week', 'month', 'quarter', 'year']) }}
)

{{ metrics_of('marketing_spend_facts', series, 'marketing_spend', {'marketing_spend': 'sum(r.measured)'}, ['channel'], ['day', 'week', 'month', 'quarter', 'year'], {
    'marketing_spend': ['marketing_spend', none],
}) }}
