-- Grain: metric_id, grain, period_start, application, segment, segment_value. Visitors of the landing page.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['day', 'week', 'month'] %}

with landings as (
    select
        *,
        null::text as legal_entity
    from {{ ref('visitor_events') }}
    where event_name = 'page.landing'
),

series as (
    select * from {{ ref('series_visitors') }}
),

measured as (
    {{ cube('landings', {'visitors': 'count(distinct r.visitor_id)'}, ['country'], grains, 'occurred_at') }}
),

placed as (
    {{ in_series({'measured': ['visitors']}, 'series', grains) }}
)

{{ metric_rows('placed', {'landing_page_visitors': ['visitors', none]}) }}
