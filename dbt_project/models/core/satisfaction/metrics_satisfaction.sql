-- Grain: metric_id, grain, period_start, application, segment, segment_value. Results of surveys.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set series = ref('series_satisfaction') %}

with answers as (
    select * from {{ ref('surveys') }}
    where score is not null and {{ at_or_after_affected('responded_at') }}
),

nps as (
    select * from answers
    where survey = 'nps' and question is null
),

csat as (
    select * from answers
    where survey = 'csat' and question is null
),

csat_sent as (
    select * from {{ ref('surveys') }}
    where survey = 'csat' and question is null and {{ at_or_after_affected('sent_at', grains=['week', 'month']) }}
),

-- the overall score is the total's, a question's its own
creator_answers as (
    select * from answers
    where survey = 'creator_satisfaction'
),

begun as (
    select * from {{ series }}
    where fact = 'creator_satisfaction'
),

creator_scores as (
    {{ cube('creator_answers', {
        'overall_score': 'sum(r.score) filter (where r.question is null)',
        'overall_answers': 'count(*) filter (where r.question is null)',
        'score': 'sum(r.score)',
        'answers': 'count(*)',
    }, ['question'], ['month', 'quarter', 'year'], 'responded_at') }}
),

creator_placed as (
    {{ in_series({'creator_scores': ['overall_score', 'overall_answers', 'score', 'answers']}, 'begun', ['month', 'quarter', 'year']) }}
)

{{ metrics_of('nps', series, 'nps', {
    'net_promoters': 'count(*) filter (where r.score >= 9) - count(*) filter (where r.score <= 6)',
    'score': 'sum(r.score)',
    'answers': 'count(*)',
}, [], ['month', 'quarter', 'year'], {
    'nps': ['100 * net_promoters', 'answers'],
    'nps_mean_score': ['score', 'answers'],
}, at='responded_at') }}
union all
{{ metrics_of('csat', series, 'csat', {'score': 'sum(r.score)', 'answers': 'count(*)'}, ['channel'], ['day', 'week', 'month'], {
    'csat': ['score', 'answers'],
}, at='responded_at') }}
union all
{{ metrics_of('csat_sent', series, 'csat', {'sent': 'count(*)', 'answered': 'count(r.score)'}, [], ['week', 'month'], {
    'csat_response_rate': ['answered', 'sent'],
}, at='sent_at') }}
union all
select * from ({{ metric_rows('creator_placed', {
    'creator_satisfaction': [
        "case when segment = '' then overall_score else score end", "case when segment = '' then overall_answers else answers end"
    ],
}, of='creator_answers') }}) as creator_rows
