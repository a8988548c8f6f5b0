-- Grain: application, segment, segment_value. When each series of the creator metrics begins: with the application's first creator.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'segment', 'segment_value'], touches=['first_at']
) }}

with creators as (
    select * from {{ ref('creators') }}
),

begun as (
    {{ first_appearances('creators', [], 'created_at') }}
),

features as (
    select
        application,
        feature,
        counts_from
    from {{ ref('creator_features') }}
    where feature != ''
),

by_feature as (
    {{ first_appearances('features', ['feature'], 'counts_from') }}
),

fixed (segment, segment_value) as (
    values
    ('', ''),
    ('step', 'knowledge_base_uploaded'),
    ('step', 'program_created'),
    ('step', 'first_user_interaction'),
    ('threshold', '1000'),
    ('threshold', '5000'),
    ('threshold', '10000')
)

select
    begun.application,
    fixed.segment,
    fixed.segment_value,
    begun.first_at
from begun
cross join fixed
union all
select
    application,
    segment,
    segment_value,
    first_at
from by_feature
where segment = 'feature'
