-- Grain: metric_id, grain, period_start, application, segment, segment_value. Percentiles of durations, over raw rows.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set series = ref('series_signals') %}

with requests as (
    select
        application,
        duration_ms,
        occurred_at as happened_at
    from {{ ref('stg_api_requests') }}
    where service = 'api' and {{ at_or_after_affected('occurred_at', grains=grains) }}
),

loads as (
    select
        application,
        device,
        page,
        page_load_ms,
        lcp_ms,
        tti_ms,
        occurred_at as happened_at
    from {{ ref('stg_web_vitals') }}
    where {{ at_or_after_affected('occurred_at', grains=grains) }}
),

-- the clock hour of the period that had the most requests, the earliest on a tie
busiest as (
    {{ measured('busiest', {'timed_requests': 'sum(r.timed_requests)', 'peak_p95_ms': 'max(r.peak_p95_ms)'}, [], ['day', 'week', 'month'],
                kind='by_period', has_totals=true) }}
    select distinct on (g.grain, g.period_start, peaks.application)
        g.grain,
        g.period_start,
        peaks.application,
        '' as segment,
        '' as segment_value,
        peaks.timed_requests,
        peaks.p95_ms as peak_p95_ms
    from {{ ref('request_peaks') }} as peaks
    cross join lateral {{ grain_starts('peaks.request_hour', ['day', 'week', 'month']) }} as g (grain, period_start)
    where {{ at_or_after_affected('peaks.request_hour', grains=['day', 'week', 'month']) }} and {{ only_affected('g.grain, g.period_start') }}
    order by g.grain, g.period_start, peaks.application, peaks.requests desc, peaks.request_hour
),

begun as (
    select * from {{ series }}
    where fact = 'api' and segment = ''
),

peak_hours as (
    {{ in_series({'busiest': ['timed_requests', 'peak_p95_ms']}, 'begun', ['day', 'week', 'month']) }}
)

{{ metrics_of('requests', series, 'api', {
    'timed_requests': 'count(r.duration_ms)',
    'p50_ms': 'percentile_cont(0.5) within group (order by r.duration_ms)',
    'p95_ms': 'percentile_cont(0.95) within group (order by r.duration_ms)',
    'p99_ms': 'percentile_cont(0.99) within group (order by r.duration_ms)',
}, [], grains, {
    'api_response_time_p50': ['p50_ms', 'timed_requests'],
    'api_response_time_p95': ['p95_ms', 'timed_requests'],
    'api_response_time_p99': ['p99_ms', 'timed_requests'],
}) }}
union all
{{ metrics_of('loads', series, 'vitals', {
    'page_loads': 'count(r.page_load_ms)',
    'page_load_ms': 'percentile_cont(0.75) within group (order by r.page_load_ms)',
    'lcp_loads': 'count(r.lcp_ms)',
    'lcp_ms': 'percentile_cont(0.75) within group (order by r.lcp_ms)',
    'tti_loads': 'count(r.tti_ms)',
    'tti_ms': 'percentile_cont(0.75) within group (order by r.tti_ms)',
}, ['device', 'page'], ['day', 'week', 'month'], {
    'page_load_time': ['page_load_ms', 'page_loads'],
    'lcp': ['lcp_ms', 'lcp_loads'],
    'tti': ['tti_ms', 'tti_loads'],
}) }}
union all
select * from ({{ metric_rows('peak_hours', {'peak_hour_response_time_p95': ['peak_p95_ms', 'timed_requests']}) }}) as peak_rows
