-- Grain: metric_id, grain, period_start, application, segment, segment_value. Downloads and the community's size.
{{ config(
    materialized='incremental', incremental_strategy='replace_affected', unique_key=metric_key(),
    affected_by=['grain', 'period_start'], meta={'mart': 'metric_values'}, indexes=metric_indexes()
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
    where {{ at_or_after_affected('downloaded_on') }}
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

by_period as (
    select
        p.grain,
        p.period_start,
        p.period_end,
        standing.measure,
        case when grouping(standing.application) = 1 then 'all' else standing.application end as application,
        '' as segment,
        '' as segment_value,
        sum(standing.value) as value
    from ({{ periods_to_build(grains) }}) as p
    inner join standing on standing.known_from < p.period_end and standing.known_until >= p.period_end
    group by grouping sets (
        (p.grain, p.period_start, p.period_end, standing.measure, standing.application),
        (p.grain, p.period_start, p.period_end, standing.measure)
    )
)

{{ metrics_of('downloads', series, 'downloads', {'downloads': 'sum(r.downloads)'}, ['package'], grains, {
    'package_downloads': ['downloads', none],
}) }}
{% for measure in measures %}
union all
select * from (
    with one_measure as (
        select * from by_period
        where measure = '{{ measure }}'
    )

    {{ metric_rows('one_measure', {measure: ['value', none]}) }}
) as {{ measure }}_rows
{% endfor %}
