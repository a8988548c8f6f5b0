-- Grain: metric_id, application. Since when each metric is measured in each application, or what has to be landed for it (metric_needs).
{{ config(meta={'key': ['metric_id', 'application']}) }}

with sightings as (
    select * from {{ ref('first_sightings') }}
),

needs (metric_id, place, need) as (
    values
    {% for metric_id, needs in metric_needs().items() %}{% for need in needs %}
    ('{{ metric_id }}', {{ loop.index }}, '{{ need }}'),
    {% endfor %}{% endfor %}
    (null, null, null)
),

applications as (
    select
        application,
        min(first_at) as first_at
    from sightings
    group by application
),

-- a metric without needs is measured since anything was landed
looked_for as (
    select
        metrics.metric_id,
        applications.application,
        coalesce(string_agg(needs.need, ', ' order by needs.place), '') as stands_on,
        string_agg(needs.need, ', ' order by needs.place) filter (where needs.need is not null and sightings.first_at is null) as lacking,
        -- what a period's window sees is seen in time for it
        coalesce(max(sightings.first_at), min(applications.first_at)) - max(metrics.window_days) * interval '1 day' as measured_from
    from {{ ref('metric_catalogue') }} as metrics
    cross join applications
    left join needs on metrics.metric_id = needs.metric_id
    left join sightings on needs.need = sightings.need and applications.application = sightings.application
    group by metrics.metric_id, applications.application
)

select
    metric_id,
    application,
    stands_on,
    case when lacking is null then measured_from end as measured_from,
    lacking
from looked_for
