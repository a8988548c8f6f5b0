-- Grain: metric_id, grain, period_start, application, segment, segment_value. Incidents, security, uptime by time, deployments, work, code.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    scope_of={'stg_work_items': 'onward', 'stg_code_quality': 'onward'},
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set series = ref('series_engineering') %}

with incidents as (
    select * from {{ ref('stg_incidents') }}
),

resolved as (
    select * from incidents
    where resolved_at is not null
),

acknowledged as (
    select * from incidents
    where acknowledged_at is not null
),

security_events as (
    select * from {{ ref('stg_security_events') }}
    where {{ at_or_after_affected('occurred_at', grains=['hour', 'day', 'week', 'month']) }}
),

state_hours as (
    select * from {{ ref('state_hours') }}
    where {{ at_or_after_affected('state_hour', grains=['day', 'week', 'month']) }}
),

deployments as (
    select * from {{ ref('stg_deployments') }}
    where {{ at_or_after_affected('started_at', grains=['hour', 'day', 'week', 'month']) }}
),

recoveries as (
    select * from {{ ref('stg_deployments') }}
    where status in ('failed', 'rolled_back') and recovered_at is not null
),

shipped_changes as (
    select * from {{ ref('fct_changes') }}
    where deployed_at is not null
),

work_items as (
    select * from {{ ref('stg_work_items') }}
),

fixed_bugs as (
    select * from work_items
    where kind = 'bug' and completed_at is not null
),

finished_features as (
    select * from work_items
    where kind = 'feature' and due_at is not null and completed_at is not null
),

sprints as (
    select * from {{ ref('sprints') }}
),

grave_bugs as (
    select * from work_items
    where kind = 'bug' and priority in ('critical', 'high')
),

bug_differences as (
    select
        work_item_id,
        application,
        created_at as happened_at,
        1 as open_bugs
    from grave_bugs
    union all
    select
        work_item_id,
        application,
        -- a bug is not fixed before it is found
        greatest(completed_at, created_at),
        -1
    from grave_bugs
    where completed_at is not null
),

bug_series as (
    select * from {{ series }}
    where fact = 'bugs' and segment = ''
),

standing_bugs as (
    {{ running_totals('bug_differences', 'bug_series', ['open_bugs'], [], ['day', 'week'], 'work_item_id', with_first=true) }}
),

pull_requests as (
    select * from {{ ref('stg_pull_requests') }}
),

opened as (
    select * from pull_requests
),

merged as (
    select * from pull_requests
    where merged_at is not null
),

-- what the analysers said stands until they say something else
component_figures as (
    select
        *,
        captured_on::timestamptz as known_from,
        lead(captured_on::timestamptz, 1, 'infinity') over (partition by application, component order by captured_on) as known_until
    from {{ ref('stg_code_quality') }}
),

components_by_period as (
    select
        p.grain,
        p.period_start,
        p.period_end,
        figures.*
    from ({{ periods_to_build(['day', 'week', 'month']) }}) as p
    inner join component_figures as figures on figures.known_from < p.period_end and figures.known_until >= p.period_end
),

-- an application's own figure is that of the component `all`; without one, its components' mean share and sum of findings
application_figures as (
    select
        grain,
        period_start,
        period_end,
        application,
        coalesce(max(test_coverage_percent) filter (where component = 'all'), avg(test_coverage_percent)) as test_coverage,
        coalesce(max(duplication_percent) filter (where component = 'all'), avg(duplication_percent)) as duplication,
        coalesce(max(technical_debt_percent) filter (where component = 'all'), avg(technical_debt_percent)) as technical_debt,
        coalesce(max(critical_vulnerabilities) filter (where component = 'all'), sum(critical_vulnerabilities)) as critical_vulnerabilities,
        coalesce(max(high_vulnerabilities) filter (where component = 'all'), sum(high_vulnerabilities)) as high_vulnerabilities
    from components_by_period
    group by grain, period_start, period_end, application
),

-- the company's share is its applications' mean: nobody says how large they are
code_figures as (
    {{ measured('application_figures', {
        'test_coverage': 'avg(r.test_coverage)', 'duplication': 'avg(r.duplication)', 'technical_debt': 'avg(r.technical_debt)',
        'critical_vulnerabilities': 'sum(r.critical_vulnerabilities)', 'high_vulnerabilities': 'sum(r.high_vulnerabilities)',
    }, [], ['day', 'week', 'month'], kind='by_period') }}
    {{ measured('components_by_period', {
        'test_coverage': 'avg(r.test_coverage_percent)', 'duplication': 'avg(r.duplication_percent)',
        'technical_debt': 'avg(r.technical_debt_percent)', 'critical_vulnerabilities': 'sum(r.critical_vulnerabilities)',
        'high_vulnerabilities': 'sum(r.high_vulnerabilities)',
    }, ['component'], ['day', 'week', 'month'], kind='by_period') }}
    select
        grain,
        period_start,
        period_end,
        case when grouping(application) = 1 then 'all' else application end as application,
        '' as segment,
        '' as segment_value,
        avg(test_coverage) as test_coverage,
        avg(duplication) as duplication,
        avg(technical_debt) as technical_debt,
        sum(critical_vulnerabilities) as critical_vulnerabilities,
        sum(high_vulnerabilities) as high_vulnerabilities
    from application_figures
    group by grouping sets ((grain, period_start, period_end, application), (grain, period_start, period_end))
    union all
    select
        grain,
        period_start,
        period_end,
        case when grouping(application) = 1 then 'all' else application end,
        'component',
        component,
        avg(test_coverage_percent),
        avg(duplication_percent),
        avg(technical_debt_percent),
        sum(critical_vulnerabilities),
        sum(high_vulnerabilities)
    from components_by_period
    group by grouping sets ((grain, period_start, period_end, component, application), (grain, period_start, period_end, component))
),

component_series as (
    select * from {{ series }}
    where fact = 'components'
),

code_placed as (
    {{ in_series({'code_figures': [
        'test_coverage', 'duplication', 'technical_debt', 'critical_vulnerabilities', 'high_vulnerabilities',
    ]}, 'component_series', ['day', 'week', 'month']) }}
)

{{ metrics_of('resolved', series, 'incidents', {
    'hours': 'sum(extract(epoch from r.resolved_at - r.started_at)) / 3600', 'incidents': 'count(*)',
}, ['severity'], ['week', 'month'], {
    'mttr': ['hours', 'incidents'],
}, at='resolved_at') }}
union all
{{ metrics_of('acknowledged', series, 'incidents', {
    'minutes': 'sum(extract(epoch from r.acknowledged_at - r.started_at)) / 60', 'incidents': 'count(*)',
}, ['severity'], ['week', 'month'], {
    'time_to_acknowledge': ['minutes', 'incidents'],
}, at='acknowledged_at') }}
union all
{{ metrics_of('security_events', series, 'security_events', {
    'grave': "count(*) filter (where r.severity in ('high', 'critical'))",
    'breaches': "count(*) filter (where r.kind = 'breach')",
}, ['kind', 'severity'], ['hour', 'day', 'week', 'month'], {
    'security_incidents': ['grave', none],
    'security_breaches': ['breaches', none],
}, at='occurred_at') }}
union all
{{ metrics_of('state_hours', series, 'states', {
    'up_seconds': 'sum(r.up_seconds)', 'observed_seconds': 'sum(r.observed_seconds)',
}, ['service'], ['hour', 'day', 'week', 'month'], {
    'uptime_by_time': ['up_seconds', 'observed_seconds'],
}, at='state_hour') }}
union all
{{ metrics_of('deployments', series, 'deployments', {
    'ended': "count(*) filter (where r.status in ('succeeded', 'failed', 'rolled_back'))",
    'succeeded': "count(*) filter (where r.status = 'succeeded')",
    'recovered': "count(r.recovered_at) filter (where r.status in ('failed', 'rolled_back'))",
    'recovery_minutes': "sum(extract(epoch from r.recovered_at - r.started_at)) filter (where r.status in ('failed', 'rolled_back')) / 60",
}, [], ['week', 'month'], {
    'deployment_success_rate': ['succeeded', 'ended'],
    'deployment_recovery_time': ['recovery_minutes', 'recovered'],
}, at='started_at') }}
union all
-- DORA's: dora.dev/guides/dora-metrics
{{ metrics_of('deployments', series, 'deployments', {
    'ended': "count(*) filter (where r.status in ('succeeded', 'failed', 'rolled_back'))",
    'failed': "count(*) filter (where r.status in ('failed', 'rolled_back'))",
}, [], ['day', 'week', 'month'], {
    'deployment_frequency': ['ended', none],
    'change_failure_rate': ['failed', 'ended'],
}, at='started_at') }}
union all
{{ metrics_of('recoveries', series, 'deployments', {
    'recoveries': 'count(*)',
    'median_hours': 'percentile_cont(0.5) within group (order by extract(epoch from r.recovered_at - r.started_at) / 3600)',
}, [], ['week', 'month'], {
    'failed_deployment_recovery_time': ['median_hours', 'recoveries'],
}, at='recovered_at') }}
union all
{{ metrics_of('shipped_changes', series, 'changes', {
    'changes': 'count(*)',
    'median_hours': 'percentile_cont(0.5) within group (order by r.lead_time_hours)',
}, ['linked_by'], ['week', 'month'], {
    'change_lead_time': ['median_hours', 'changes'],
}, at='deployed_at') }}
union all
{{ metrics_of('fixed_bugs', series, 'bugs', {
    'bugs': 'count(*)',
    'median_hours': 'percentile_cont(0.5) within group (order by extract(epoch from r.completed_at - r.created_at) / 3600)',
}, ['priority'], ['week', 'month'], {
    'bug_resolution_time': ['median_hours', 'bugs'],
}, at='completed_at') }}
union all
{{ metrics_of('finished_features', series, 'features', {
    'features': 'count(*)', 'on_time': 'count(*) filter (where r.completed_at <= r.due_at)',
}, [], ['month', 'quarter', 'year'], {
    'on_time_delivery_rate': ['on_time', 'features'],
}, at='completed_at') }}
union all
{{ metrics_of('sprints', series, 'sprints', {'points': 'sum(r.completed_points)', 'sprints': 'count(*)'}, [], ['month'], {
    'development_velocity': ['points', 'sprints'],
}, at='ended_at') }}
union all
select * from ({{ metric_rows('standing_bugs', {'open_critical_bugs': ['open_bugs', none]}) }}) as standing_rows
union all
{{ metrics_of('opened', series, 'pull_requests', {
    'opened': 'count(*)', 'reviewed': "count(*) filter (where r.first_review_at <= r.opened_at + interval '24 hours')",
}, [], ['week', 'month'], {
    'code_review_within_24h_rate': ['reviewed', 'opened'],
}, at='opened_at') }}
union all
{{ metrics_of('merged', series, 'pull_requests', {
    'cycles': 'sum(r.review_cycles)', 'merged': 'count(r.review_cycles)',
}, [], ['week', 'month'], {
    'review_cycles_per_pr': ['cycles', 'merged'],
}, at='merged_at') }}
union all
select * from ({{ metric_rows('code_placed', {
    'test_coverage': ['test_coverage', none, {'null_reason': "'source_missing'", 'idle_reason': 'source_missing'}],
    'code_duplication': ['duplication', none, {'null_reason': "'source_missing'", 'idle_reason': 'source_missing'}],
    'technical_debt_ratio': ['technical_debt', none, {'null_reason': "'source_missing'", 'idle_reason': 'source_missing'}],
    'critical_vulnerabilities': ['critical_vulnerabilities', none],
    'high_vulnerabilities': ['high_vulnerabilities', none],
}) }}) as code_rows
