-- Grain: fact, application, segment, segment_value. When each series of the marketplace metrics begins.
{{ config(
    materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with bookings as (
    select
        *,
        null::text as legal_entity,
        -- some are confirmed before they are requested
        least(requested_at, confirmed_at, completed_at) as first_at
    from {{ ref('fct_bookings') }}
),

reviews as (
    select * from {{ ref('stg_reviews') }}
),

purchases as (
    select * from {{ ref('stg_package_purchases') }}
),

applicants as (
    select * from {{ ref('stg_tutor_applications') }}
)

{{ series_of('bookings', 'bookings', ['country'], 'first_at') }}
union all
{{ series_of('reviews', 'reviews', [], 'created_at') }}
union all
{{ series_of('purchases', 'purchases', [], 'purchased_at') }}
union all
{{ series_of('applicants', 'applicants', [], 'applied_at') }}
