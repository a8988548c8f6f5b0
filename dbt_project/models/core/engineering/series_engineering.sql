-- Grain: fact, application, segment, segment_value. When each series of the engineering, incident, state and security metrics begins.
{{ config(
    materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with incidents as (
    select * from {{ ref('stg_incidents') }}
),

security_events as (
    select * from {{ ref('stg_security_events') }}
),

states as (
    select * from {{ ref('state_hours') }}
),

deployments as (
    select * from {{ ref('stg_deployments') }}
),

changes as (
    select * from {{ ref('fct_changes') }}
    where deployed_at is not null
),

bugs as (
    select * from {{ ref('stg_work_items') }}
    where kind = 'bug'
),

features as (
    select * from {{ ref('stg_work_items') }}
    where kind = 'feature' and due_at is not null
),

sprints as (
    select * from {{ ref('sprints') }}
),

pull_requests as (
    select * from {{ ref('stg_pull_requests') }}
),

components as (
    select
        *,
        captured_on::timestamptz as happened_at
    from {{ ref('stg_code_quality') }}
)

{{ series_of('incidents', 'incidents', ['severity'], 'started_at') }}
union all
{{ series_of('security_events', 'security_events', ['kind', 'severity'], 'occurred_at') }}
union all
{{ series_of('states', 'states', ['service'], 'state_hour') }}
union all
{{ series_of('deployments', 'deployments', [], 'started_at') }}
union all
{{ series_of('changes', 'changes', ['linked_by'], 'deployed_at') }}
union all
{{ series_of('bugs', 'bugs', ['priority'], 'created_at') }}
union all
{{ series_of('features', 'features', [], 'created_at') }}
union all
{{ series_of('sprints', 'sprints', [], 'ended_at') }}
union all
{{ series_of('pull_requests', 'pull_requests', [], 'opened_at') }}
union all
{{ series_of('components', 'components', ['component']) }}
