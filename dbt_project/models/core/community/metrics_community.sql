-- Grain: metric_id, grain, period_start, application, segment, segment_value. Downloads and the community's size.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    scope_of={'stg_community_snapshots': 'onward'},
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['day', 'week', 'month'] %}
{% set measures = [
    'github_stars', 'github_forks', 'contributors', 'external_contributors', 'issues_opened', 'pull_requests_merged',
    'community_members', 'posts_and_talks', 'media_mentions',
] %}
{% set series = ref('series_community') %}

with downloads as (
    select
        *,
        downloaded_on::timestamptz as happened_at
    from {{ ref('stg_package_downloads') }}
    where {{ at_or_after_affected('downloaded_on', grains=grains) }}
),

-- a figure stands until the next one
standing as (
    select
        application,
        measure,
        value,
        captured_on::timestamptz as known_from,
        lead(captured_on::timestamptz, 1, 'infinity') over (partition by application, measure order by captured_on) as known_until
    from {{ ref('stg_community_snapshots') }}
),

standing_by_period as (
    select
        p.grain,
        p.period_start,
        p.period_end,
        standing.*
    from ({{ periods_to_build(grains) }}) as p
    inner join standing on standing.known_from < p.period_end and standing.known_until >= p.period_end
),

by_period as (
    select
        grain,
        period_start,
        period_end,
        measure,
        case when grouping(application) = 1 then 'all' else application end as application,
        '' as segment,
        '' as segment_value,
        sum(value) as value
    from standing_by_period
    group by grouping sets ((grain, period_start, period_end, measure, application), (grain, period_start, period_end, measure))
)

{{ metrics_of('downloads', series, 'downloads', {'downloads': 'sum(r.downloads)'}, ['package'], grains, {
    'package_downloads': ['downloads', none],
}) }}
{% for measure in measures %}
union all
select * from (
    with one_measure as (
        {{ measured('standing_by_period', {measure: "sum(r.value) filter (where r.measure = '" ~ measure ~ "')"}, [], grains, kind='by_period') }}
        select
            *,
            value as {{ measure }}
        from by_period
        where measure = '{{ measure }}'
    ),

    begun as (
        select * from {{ series }}
        where fact = '{{ measure }}'
    ),

    placed as (
        {{ in_series({'one_measure': [measure]}, 'begun', grains) }}
    )

    {{ metric_rows('placed', {measure: [measure, none]}) }}
) as {{ measure }}_rows
{% endfor %}
