-- Grain: grain, period_start. Every period from the first landed row up to as_of; the last of each grain is still open.
-- An older row makes it begin earlier, and time makes it longer: neither changes what a model counts in a period that was there.
{{ config(is_calendar=true) }}
with starts as (
    select min(event_hour) as started_at from {{ ref('event_hours') }}
    union all
    select min(created_at) from {{ ref('accounts') }}
    union all
    select min(valid_from) from {{ ref('stg_subscriptions') }}
    union all
    select min(created_at) from {{ ref('stg_charges') }}
    union all
    select min(created_at) from {{ ref('stg_refunds') }}
    union all
    select min(created_at) from {{ ref('stg_tickets') }}
    union all
    select min(started_at) from {{ ref('stg_conversations') }}
    union all
    select min(sent_at) from {{ ref('stg_messages') }}
    union all
    select min(spend_date)::timestamptz from {{ ref('stg_marketing_spend') }}
    union all
    select min(request_hour) from {{ ref('request_hours') }}
    union all
    select min(checked_hour) from {{ ref('probe_hours') }}
    union all
    select min(error_hour) from {{ ref('error_hours') }}
    union all
    select min(sampled_hour) from {{ ref('resource_hours') }}
    union all
    select min(query_hour) from {{ ref('query_hours') }}
    union all
    select min(load_hour) from {{ ref('vital_hours') }}
    union all
    select min(call_hour) from {{ ref('integration_hours') }}
    {% for view, column in {
        'stg_bookings': 'requested_at', 'stg_package_purchases': 'purchased_at', 'stg_reviews': 'created_at',
        'stg_tutor_applications': 'applied_at', 'stg_survey_responses': 'sent_at', 'stg_help_center_visits': 'occurred_at',
        'stg_ai_responses': 'created_at', 'stg_content_items': 'created_at', 'stg_creator_earnings': 'earned_on::timestamptz',
        'stg_security_events': 'occurred_at', 'stg_deployments': 'started_at', 'stg_incidents': 'started_at',
        'stg_work_items': 'created_at', 'stg_pull_requests': 'opened_at', 'stg_service_states': 'changed_at', 'stg_code_quality': 'captured_on::timestamptz',
        'stg_community_snapshots': 'captured_on::timestamptz', 'stg_package_downloads': 'downloaded_on::timestamptz',
    }.items() %}
    union all
    select min({{ column }}) from {{ ref(view) }}
    {% endfor %}
),

history as (
    select min(started_at) as first_at from starts
),

grains (grain, step) as (
    values
    ('hour', interval '1 hour'),
    ('day', interval '1 day'),
    ('week', interval '1 week'),
    ('month', interval '1 month'),
    ('quarter', interval '3 months'),
    ('year', interval '1 year')
)

select
    grains.grain,
    period_start,
    period_start + grains.step as period_end
from history
cross join grains
cross join lateral generate_series(
    {{ start_of_each('grains.grain', 'history.first_at') }}, {{ as_of() }} - interval '1 microsecond', grains.step
) as period_start
