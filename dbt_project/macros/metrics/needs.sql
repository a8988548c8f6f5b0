{#
What each metric stands on: what has to have been landed before its values say anything (docs/add_a_metric.md). A metric is measured in an
application from the period on in which the last of its needs was first seen there; before that, and where one was never seen, it has no value.

A need is an entity, or `entity.condition`. A condition is a column that is not empty (`a/b`: one of the two), or `column=value|value`; `&` joins
several. ` by account`, ` by subscription`: the application is that of the row's account or subscription. What may be empty in a company that
measures the metric (refunds of cash_collected, rates, deletions) is no need.
#}
{% macro metric_needs() %}
    {% set activity, activity_by_account = 'events.account_id', 'events.account_id by account' %}
    {% set creators = 'accounts.account_type=creator' %}
    {% set api_duration = 'api_requests.service=api&duration_ms' %}
    {% set creator_scores = 'survey_responses.survey=creator_satisfaction' %}
    {% set earnings = 'creator_earnings by account' %}
    {% set paid = ['marketing_spend', 'subscriptions'] %}
    {% set needs_by_metric = {
        'mrr': ['subscriptions'],
        'arr': ['subscriptions'],
        'mrr_growth_rate': ['subscriptions'],
        'mrr_constant_currency': ['subscriptions'],
        'arr_constant_currency': ['subscriptions'],
        'mrr_growth_rate_constant_currency': ['subscriptions'],
        'new_mrr': ['subscriptions'],
        'expansion_mrr': ['subscriptions'],
        'contraction_mrr': ['subscriptions'],
        'churned_mrr': ['subscriptions'],
        'reactivation_mrr': ['subscriptions'],
        'net_new_mrr': ['subscriptions'],
        'paying_accounts': ['subscriptions'],
        'arpu': ['subscriptions'],
        'revenue_per_creator': ['subscriptions', 'accounts.account_type=creator by subscription'],
        'price_realisation': ['subscriptions.discount_percent/discount_amount'],
        'cash_collected': ['charges'],
        'cash_collected_constant_currency': ['charges'],
        'refund_rate': ['charges', 'refunds'],
        'customer_churn_rate': ['subscriptions'],
        'net_revenue_retention': ['subscriptions'],
        'gross_revenue_retention': ['subscriptions'],
        'ltv': ['subscriptions'],
        'ltv_growth_rate': ['subscriptions'],
        'cac': paid,
        'cac_change_rate': paid,
        'ltv_cac_ratio': paid,
        'payment_success_rate': ['charges.status=failed'],
        'payment_failure_rate': ['charges.status=failed'],
        'payment_recovery_rate': ['charges.status=failed', 'charges.payment_id'],
        'payment_retries': ['charges.payment_id'],
        'international_revenue_share': ['subscriptions', 'accounts.country by subscription'],
        'active_markets': ['subscriptions', 'accounts.country by subscription'],
        'market_share': [creators, 'market_size'],
        'new_registrations': ['accounts'],
        'registered_accounts': ['accounts'],
        'registration_growth_rate': ['accounts'],
        'new_creators': [creators],
        'creator_acquisition_growth_rate': [creators],
        'organic_share': ['accounts.acquisition_channel'],
        'referral_rate': ['accounts.referred_by_account_id by account'],
        'signup_to_paid_conversion_rate': ['accounts', 'subscriptions by account'],
        'activation_rate': ['accounts', 'events.event_name=feature.used|tool.invoked|booking.requested by account'],
        'dau': [activity],
        'wau': [activity],
        'mau': [activity],
        'dau_rate': [activity, 'accounts'],
        'mau_rate': [activity, 'accounts'],
        'mau_growth_rate': [activity],
        'stickiness': [activity],
        'session_duration': ['events.session_id'],
        'sessions': ['events.session_id'],
        'tracked_events': ['events'],
        'landing_page_visitors': ['events.event_name=page.landing'],
        'messages_per_session': ['messages', 'events.session_id'],
        'conversation_completion_rate': ['conversations.ended_naturally'],
        'weekly_active_learners': ['bookings.completed_at'],
        'weekly_active_tutors': ['bookings.completed_at'],
        'tool_invocations': ['events.event_name=tool.invoked'],
        'tools_per_session': ['events.event_name=tool.invoked', 'events.session_id'],
        'tool_error_rate': ['events.event_name=tool.invoked&properties.status'],
        'feature_adoption_rate': [activity, 'events.event_name=feature.used'],
        'creator_feature_adoption_rate': [creators, 'events.event_name=feature.used by account'],
        'creator_weekly_active_rate': [creators, activity_by_account],
        'creator_onboarding_success_rate': [creators, 'events.event_name=creator.onboarding_completed by account'],
        'creator_onboarding_step_rate': [creators, 'content_items by account', 'conversations.creator_id by account'],
        'creator_success_rate': [creators, earnings],
        'creator_revenue_growth_rate': [earnings],
        'creators_earning_over': [creators, earnings],
        'creator_satisfaction': [creator_scores],
        'documents_per_creator': [creators, 'content_items.kind=document'],
        'programs_per_creator': [creators, 'content_items.kind=program'],
        'content_update_rate': [creators, 'events.event_name=content.created|content.updated by account'],
        'retention_d1': ['accounts', activity_by_account],
        'retention_d7': ['accounts', activity_by_account],
        'retention_d30': ['accounts', activity_by_account],
        'retention_d90': ['accounts', activity_by_account],
        'user_retention_rate': [activity_by_account],
        'user_churn_rate': [activity_by_account],
        'student_retention_30d': ['accounts.account_type=student', activity_by_account],
        'tutor_retention_30d': ['accounts.account_type=tutor', activity_by_account],
        'nps': ['survey_responses.survey=nps'],
        'nps_mean_score': ['survey_responses.survey=nps'],
        'csat': ['survey_responses.survey=csat'],
        'csat_response_rate': ['survey_responses.survey=csat'],
        'booking_conversion_rate': ['bookings.confirmed_at'],
        'session_completion_rate': ['bookings.confirmed_at', 'bookings.completed_at'],
        'tutor_approval_rate': ['tutor_applications.approved_at'],
        'bookings': ['bookings'],
        'booking_cancellation_rate': ['bookings.confirmed_at', 'bookings.cancelled_at'],
        'completed_sessions_per_tutor': ['bookings.completed_at'],
        'gmv': ['bookings.confirmed_at'],
        'marketplace_net_revenue': ['bookings.confirmed_at'],
        'average_session_value': ['bookings.completed_at', 'bookings.payment_state=captured'],
        'package_purchase_rate': ['package_purchases', activity],
        'messages_per_booking': ['bookings', 'messages.booking_id'],
        'review_rate': ['bookings.completed_at', 'reviews.booking_id'],
        'average_rating': ['reviews'],
        'ticket_volume': ['tickets'],
        'open_tickets': ['tickets'],
        'first_response_time': ['tickets', 'ticket_events.event_type=public_reply'],
        'resolution_time': ['tickets'],
        'escalation_time': ['tickets.priority=urgent', 'ticket_events.event_type=escalated'],
        'first_response_business_time': ['tickets.support_calendar', 'ticket_events.event_type=public_reply'],
        'resolution_business_time': ['tickets.support_calendar'],
        'escalation_business_time': ['tickets.support_calendar', 'tickets.priority=urgent', 'ticket_events.event_type=escalated'],
        'first_contact_resolution_rate': ['tickets', 'ticket_events.event_type=public_reply'],
        'ticket_reopen_rate': ['tickets', 'ticket_events.event_type=reopened'],
        'support_csat': ['survey_responses.survey=support_csat'],
        'self_service_rate': ['help_center_visits', 'tickets'],
        'help_center_quality': ['survey_responses.survey=help_center'],
        'uptime': ['uptime_checks'],
        'uptime_by_time': ['service_states'],
        'third_party_uptime': ['uptime_checks.is_third_party=true'],
        'api_requests': ['api_requests'],
        'error_rate': ['api_requests'],
        'critical_error_rate': ['api_requests.is_critical=true'],
        'application_errors': ['error_events.level=error|fatal'],
        'auth_response_time': ['api_requests.service=auth&duration_ms'],
        'api_response_time': [api_duration],
        'api_response_time_p50': [api_duration],
        'api_response_time_p95': [api_duration],
        'api_response_time_p99': [api_duration],
        'peak_hour_response_time_p95': [api_duration],
        'page_load_time': ['web_vitals.page_load_ms'],
        'lcp': ['web_vitals.lcp_ms'],
        'tti': ['web_vitals.tti_ms'],
        'lighthouse_score': ['web_vitals.lighthouse_score'],
        'accessibility_score': ['web_vitals.accessibility_score'],
        'peak_concurrent_users': ['resource_samples.concurrent_users'],
        'peak_messages_per_hour': ['messages'],
        'cpu_utilisation': ['resource_samples.cpu_percent'],
        'memory_utilisation': ['resource_samples.memory_percent'],
        'network_latency': ['resource_samples.network_latency_ms'],
        'query_time': ['query_stats'],
        'slow_queries': ['query_stats.slow_calls'],
        'auth_success_rate': ['events.event_name=user.login', 'events.event_name=user.login_failed'],
        'failed_logins': ['events.event_name=user.login_failed'],
        'security_incidents': ['security_events'],
        'security_breaches': ['security_events'],
        'integration_success_rate': ['integration_calls.kind=setup'],
        'integration_call_success_rate': ['integration_calls.kind=call'],
        'deployment_success_rate': ['deployments.status=failed|rolled_back'],
        'deployment_recovery_time': ['deployments.recovered_at'],
        'deployment_frequency': ['deployments'],
        'change_lead_time': ['deployments', 'commits'],
        'change_failure_rate': ['deployments.status=failed|rolled_back'],
        'failed_deployment_recovery_time': ['deployments.recovered_at'],
        'mttr': ['incidents.resolved_at'],
        'time_to_acknowledge': ['incidents.acknowledged_at'],
        'test_coverage': ['code_quality.test_coverage_percent'],
        'code_duplication': ['code_quality.duplication_percent'],
        'technical_debt_ratio': ['code_quality.technical_debt_percent'],
        'critical_vulnerabilities': ['code_quality.critical_vulnerabilities'],
        'high_vulnerabilities': ['code_quality.high_vulnerabilities'],
        'open_critical_bugs': ['work_items.kind=bug&priority'],
        'development_velocity': ['work_items.sprint&story_points'],
        'on_time_delivery_rate': ['work_items.kind=feature&due_at'],
        'bug_resolution_time': ['work_items.kind=bug'],
        'code_review_within_24h_rate': ['pull_requests.first_review_at'],
        'review_cycles_per_pr': ['pull_requests.review_cycles'],
        'ai_satisfaction_rate': ['ai_responses.user_satisfied'],
        'ai_confidence': ['ai_responses.confidence'],
        'ai_relevance_rate': ['ai_responses.is_relevant'],
        'ai_accuracy_rate': ['ai_responses.is_accurate'],
        'ai_helpfulness_rate': ['ai_responses.is_helpful'],
        'package_downloads': ['package_downloads'],
        'github_stars': ['community_snapshots.measure=github_stars'],
        'github_forks': ['community_snapshots.measure=github_forks'],
        'contributors': ['community_snapshots.measure=contributors'],
        'external_contributors': ['community_snapshots.measure=external_contributors'],
        'issues_opened': ['community_snapshots.measure=issues_opened'],
        'pull_requests_merged': ['community_snapshots.measure=pull_requests_merged'],
        'community_members': ['community_snapshots.measure=community_members'],
        'posts_and_talks': ['community_snapshots.measure=posts_and_talks'],
        'media_mentions': ['community_snapshots.measure=media_mentions'],
        'telemetry_opt_in_rate': ['accounts.telemetry_opt_in'],
        'targets_met_rate': [],
    } %}
    {% do needs_by_metric.update(counted_metrics()) %}
    {# what is made of other metrics stands on what they stand on #}
    {% for metric_id, parts in composed_metrics().items() %}
        {% set needs = [] %}
        {% for part in parts %}{% do needs.extend(needs_by_metric[part]) %}{% endfor %}
        {% do needs_by_metric.update({metric_id: needs | unique | list}) %}
    {% endfor %}
    {{ return(needs_by_metric) }}
{% endmacro %}

{#
Where a need is looked for, if not in the entity's staging view by its own condition: {need or entity: [relation, time, condition]}; the relation
has `application`, which is the one that the metrics count by. Rows of high volume are looked for in their hourly sums.
#}
{% macro seen_in() %}
    {{ return({
        'events': ['event_hours', 'event_hour'],
        'events.account_id': ['active_accounts', 'activity_on', 'true'],
        'events.account_id by account': ['activity_by_account', 'activity_on', 'true'],
        'events.session_id': ['fct_sessions', 'started_at', 'true'],
        'events.event_name=tool.invoked&properties.status': ['event_hours', 'event_hour', 'events_with_status > 0'],
        'events.event_name=feature.used|tool.invoked|booking.requested by account': ['activations', 'first_at', 'true'],
        'events.event_name=feature.used by account': ['creator_features', 'counts_from', 'true'],
        'events.event_name=creator.onboarding_completed by account': ['creator_events', 'first_at', "event_name = 'creator.onboarding_completed'"],
        'events.event_name=content.created|content.updated by account': ['creator_events', 'first_at', "event_name in ('content.created', 'content.updated')"],
        'accounts': ['dim_accounts', 'created_at'],
        'accounts.referred_by_account_id by account': ['referrers', 'created_at', 'true'],
        'accounts.country by subscription': ['series_mrr', 'first_at', "segment = 'country' and segment_value != '(unknown)'"],
        'accounts.account_type=creator by subscription': ['series_mrr', 'first_at', "segment = 'account_type' and segment_value = 'creator'"],
        'subscriptions': ['series_mrr', 'first_at', 'true'],
        'subscriptions by account': ['subscribers', 'valid_from', 'true'],
        'subscriptions.discount_percent/discount_amount': ['stg_subscriptions', 'valid_from', 'discount_percent is not null or discount_amount is not null'],
        'refunds': ['fct_refunds', 'created_at'],
        'bookings': ['fct_bookings', 'least(requested_at, confirmed_at, completed_at)'],
        'reviews.booking_id': ['fct_bookings', 'first_reviewed_at', 'true'],
        'messages': ['message_hours', 'message_hour'],
        'messages.booking_id': ['fct_bookings', 'requested_at', 'messages > 0'],
        'tickets': ['fct_tickets', 'created_at'],
        'tickets.support_calendar': ['fct_tickets', 'created_at', has_calendar('application')],
        'ticket_events.event_type=public_reply': ['fct_tickets', 'first_response_at', 'true'],
        'ticket_events.event_type=escalated': ['fct_tickets', 'first_escalated_at', 'true'],
        'ticket_events.event_type=reopened': ['fct_tickets', 'created_at', 'reopenings > 0'],
        'creator_earnings by account': ['creator_months', 'month', 'true'],
        'content_items by account': ['creator_items', 'created_at', 'true'],
        'conversations.creator_id by account': ['creator_conversations', 'started_at', 'true'],
        'conversations': ['conversations', 'started_at'],
        'survey_responses': ['surveys', 'sent_at'],
        'uptime_checks': ['probe_hours', 'checked_hour'],
        'service_states': ['state_spans', 'held_from', 'is_up is not null'],
        'api_requests': ['request_hours', 'request_hour'],
        'api_requests.is_critical=true': ['request_hours', 'request_hour', 'critical > 0'],
        'error_events': ['error_hours', 'error_hour'],
        'resource_samples': ['resource_hours', 'sampled_hour'],
        'query_stats': ['query_hours', 'query_hour'],
        'web_vitals': ['vital_hours', 'load_hour'],
        'web_vitals.page_load_ms': ['vital_hours', 'load_hour', 'page_loads > 0'],
        'web_vitals.lcp_ms': ['vital_hours', 'load_hour', 'lcp_loads > 0'],
        'web_vitals.tti_ms': ['vital_hours', 'load_hour', 'tti_loads > 0'],
        'integration_calls': ['integration_hours', 'call_hour'],
    }) }}
{% endmacro %}

{#
The rows of a `metrics_<domain>` model that are published as points: not those of a stretch that is not measured, which are known from all
models together. The names in the inner query are not those of a point, which are meant outside it.
#}
{% macro measured_point() -%}
    {{ return(
        "is_point and not exists (select 1 from (select series_id as hidden_series, holds_from, holds_until from marts_candidate.metric_series "
        ~ "where state = 'not_measured') as hidden where hidden_series = series_id and holds_from <= period_start "
        ~ "and (holds_until is null or period_start < holds_until))"
    ) }}
{%- endmacro %}

{# Every need, once: [{need, entity, relation, time, condition}]. #}
{% macro needs() %}
    {%- set found, places, names = [], seen_in(), [] -%}
    {%- for metric_id, metric_needs in metric_needs().items() -%}
        {%- do names.extend(metric_needs) -%}
    {%- endfor -%}
    {%- for need in names | unique -%}
        {%- set entity = need.split('.')[0].split(' ')[0] -%}
        {%- set place = places.get(need) or places.get(entity) or ['stg_' ~ entity, entity_times()[entity].own] -%}
        {%- set condition = place[2] if places.get(need) and place | length == 3 else need_condition(need) -%}
        {%- do found.append({'need': need, 'entity': entity, 'relation': place[0], 'time': place[1], 'condition': condition}) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}

{# The condition of a need as SQL, over the entity's columns. #}
{% macro need_condition(need) %}
    {%- set parts = [] -%}
    {%- if '.' in need -%}
        {%- for term in need.split('.', 1)[1].split('&') -%}
            {%- if '=' in term -%}
                {%- do parts.append(term.split('=')[0] ~ " in ('" ~ term.split('=')[1].split('|') | join("', '") ~ "')") -%}
            {%- else -%}
                {%- do parts.append(term ~ ' is not null') -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(parts | join(' and ') or 'true') }}
{% endmacro %}
