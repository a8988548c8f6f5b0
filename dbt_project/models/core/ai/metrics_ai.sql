-- Grain: metric_id, grain, period_start, application, segment, segment_value. Ratings of the assistant's answers.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}

with responses as (
    select * from {{ ref('stg_ai_responses') }}
    where {{ at_or_after_affected('created_at', grains=['day', 'week', 'month']) }}
)

{{ metrics_of('responses', ref('series_ai'), 'responses', {
    'satisfied': 'count(*) filter (where r.user_satisfied)', 'judged': 'count(r.user_satisfied)',
    'relevant': 'count(*) filter (where r.is_relevant)', 'judged_relevance': 'count(r.is_relevant)',
    'accurate': 'count(*) filter (where r.is_accurate)', 'judged_accuracy': 'count(r.is_accurate)',
    'helpful': 'count(*) filter (where r.is_helpful)', 'judged_helpfulness': 'count(r.is_helpful)',
    'confidence': 'sum(r.confidence)', 'confidences': 'count(r.confidence)',
}, [], ['day', 'week', 'month'], {
    'ai_satisfaction_rate': ['satisfied', 'judged'],
    'ai_confidence': ['confidence', 'confidences'],
    'ai_relevance_rate': ['relevant', 'judged_relevance'],
    'ai_accuracy_rate': ['accurate', 'judged_accuracy'],
    'ai_helpfulness_rate': ['helpful', 'judged_helpfulness'],
}, at='created_at') }}
