-- Grain: fact, application, segment, segment_value. When each series of the community metrics begins.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']
) }}

with downloads as (
    select
        *,
        downloaded_on::timestamptz as happened_at
    from {{ ref('stg_package_downloads') }}
),

snapshots as (
    select
        *,
        captured_on::timestamptz as happened_at
    from {{ ref('stg_community_snapshots') }}
)

{{ series_of('downloads', 'downloads', ['package']) }}
union all
select
    measure as fact,
    case when grouping(application) = 1 then 'all' else application end as application,
    '' as segment,
    '' as segment_value,
    min(happened_at) as first_at
from snapshots
group by grouping sets ((measure, application), (measure))
