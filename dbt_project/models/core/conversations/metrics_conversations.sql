-- Grain: metric_id, grain, period_start, application, segment, segment_value. Completion of conversations.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['day', 'week', 'month'] %}
{% set measures = {
    'conversations': 'count(*)',
    'ended_naturally': 'count(*) filter (where r.ended_naturally)',
} %}

with conversations as (
    select * from {{ ref('conversations') }}
),

series as (
    select * from {{ ref('series_conversations') }}
),

measured as (
    {{ cube('conversations', measures, ['channel'], grains, 'started_at') }}
),

placed as (
    {{ in_series({'measured': measures}, 'series', grains) }}
)

{{ metric_rows('placed', {
    'conversation_completion_rate': ['ended_naturally', 'conversations'],
}) }}
