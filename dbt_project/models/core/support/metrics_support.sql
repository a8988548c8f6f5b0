-- Grain: metric_id, grain, period_start, application, segment, segment_value. Ticket load, response, resolution, satisfaction.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    scope_of={'ticket_transitions': 'onward'},
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['hour', 'day', 'week', 'month'] %}
{% set segments = ['channel', 'priority', 'category'] %}

with tickets as (
    select * from {{ ref('fct_tickets') }}
),

created as (
    select * from tickets
),

responded as (
    select * from tickets
    where first_response_at is not null
),

escalated as (
    select * from tickets
    where first_escalated_at is not null and priority = 'urgent'
),

resolved as (
    select * from tickets
    where resolved_at is not null
),

scores as (
    select * from {{ ref('support_scores') }}
),

differences as (
    select
        tickets.ticket_id,
        tickets.application,
        tickets.priority,
        transitions.happened_at,
        transitions.difference as open_tickets
    from {{ ref('ticket_transitions') }} as transitions
    inner join tickets on transitions.ticket_id = tickets.ticket_id
),

series as (
    select * from {{ ref('series_support') }}
),

priority_series as (
    select * from series
    where segment in ('', 'priority')
),

by_creation as (
    {{ cube('created', {'tickets': 'count(*)'}, segments, grains, 'created_at') }}
),

by_response as (
    {{ cube('responded', {
        'responded': 'count(*)',
        'median_response_minutes': 'percentile_cont(0.5) within group (order by r.first_response_minutes)',
        'responded_by_calendar': by_calendar('count(r.first_response_business_minutes)'),
        'median_response_business_minutes': by_calendar('percentile_cont(0.5) within group (order by r.first_response_business_minutes)'),
    }, segments, grains, 'first_response_at') }}
),

by_escalation as (
    {{ cube('escalated', {
        'escalated': 'count(*)',
        'median_escalation_minutes': 'percentile_cont(0.5) within group (order by r.first_escalation_minutes)',
        'escalated_by_calendar': by_calendar('count(r.first_escalation_business_minutes)'),
        'median_escalation_business_minutes': by_calendar('percentile_cont(0.5) within group (order by r.first_escalation_business_minutes)'),
    }, segments, grains, 'first_escalated_at') }}
),

by_resolution as (
    {{ cube('resolved', {
        'resolved': 'count(*)',
        'resolved_at_once': 'count(*) filter (where r.public_agent_replies = 1 and r.reopenings = 0)',
        'reopened': 'count(*) filter (where r.reopenings > 0)',
        'median_resolution_hours': 'percentile_cont(0.5) within group (order by r.resolution_hours)',
        'resolved_by_calendar': by_calendar('count(r.resolution_business_hours)'),
        'median_resolution_business_hours': by_calendar('percentile_cont(0.5) within group (order by r.resolution_business_hours)'),
    }, segments, grains, 'resolved_at') }}
),

by_score as (
    {{ cube('scores', {
        'csat_score': "sum(r.score) filter (where r.kind = 'support_csat')",
        'csat_responses': "count(r.score) filter (where r.kind = 'support_csat')",
        'help_center_score': "sum(r.score) filter (where r.kind = 'help_center')",
        'help_center_responses': "count(r.score) filter (where r.kind = 'help_center')",
        'served_itself': 'sum(r.served_itself)',
    }, [], grains) }}
),

placed as (
    {{ in_series({
        'by_creation': ['tickets'],
        'by_response': ['responded', 'median_response_minutes', 'responded_by_calendar', 'median_response_business_minutes'],
        'by_escalation': ['escalated', 'median_escalation_minutes', 'escalated_by_calendar', 'median_escalation_business_minutes'],
        'by_resolution': [
            'resolved', 'resolved_at_once', 'reopened', 'median_resolution_hours', 'resolved_by_calendar', 'median_resolution_business_hours',
        ],
        'by_score': ['csat_score', 'csat_responses', 'help_center_score', 'help_center_responses', 'served_itself'],
    }, 'series', grains) }}
),

standing as (
    {{ running_totals('differences', 'priority_series', ['open_tickets'], ['priority'], ['day', 'week'], 'ticket_id', with_first=true) }}
)

{{ metric_rows('placed', {
    'ticket_volume': ['tickets', none],
    'first_response_time': ['median_response_minutes', 'responded'],
    'resolution_time': ['median_resolution_hours', 'resolved'],
    'escalation_time': ['median_escalation_minutes', 'escalated'],
    'first_response_business_time': ['median_response_business_minutes', 'responded_by_calendar'],
    'resolution_business_time': ['median_resolution_business_hours', 'resolved_by_calendar'],
    'escalation_business_time': ['median_escalation_business_minutes', 'escalated_by_calendar'],
    'first_contact_resolution_rate': ['resolved_at_once', 'resolved'],
    'ticket_reopen_rate': ['reopened', 'resolved'],
    'support_csat': ['csat_score', 'csat_responses'],
    'self_service_rate': ['served_itself', 'coalesce(served_itself, 0) + coalesce(tickets, 0)'],
    'help_center_quality': ['help_center_score', 'help_center_responses'],
}) }}
union all
select * from ({{ metric_rows('standing', {'open_tickets': ['open_tickets', none]}) }}) as standing_rows
