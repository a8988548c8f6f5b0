-- Grain: fact, application, segment, segment_value. When each series of the satisfaction metrics begins.
{{ config(
    materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with surveys as (
    select * from {{ ref('surveys') }}
),

nps as (
    select * from surveys
    where survey = 'nps' and question is null
),

csat as (
    select * from surveys
    where survey = 'csat' and question is null
),

creators as (
    select * from surveys
    where survey = 'creator_satisfaction'
),

named as (
    select * from creators
    where question is not null
)

{{ series_of('nps', 'nps', [], 'sent_at') }}
union all
{{ series_of('csat', 'csat', ['channel'], 'sent_at') }}
union all
{{ series_of('creator_satisfaction', 'creators', [], 'sent_at') }}
union all
select 'creator_satisfaction', by_question.*
from ({{ first_appearances('named', ['question'], 'sent_at') }}) as by_question
where by_question.segment = 'question'
