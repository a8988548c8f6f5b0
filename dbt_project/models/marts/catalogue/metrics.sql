-- Grain: metric_id. The catalogue of metrics (dbt_project/seeds/metric_catalogue.csv), with the team that is responsible for each.
{{ config(time_dependent=false, meta={'key': ['metric_id']}, alias='metrics', schema='marts_candidate') }}

select
    catalogue.metric_id,
    catalogue.domain,
    owners.owner,
    catalogue.level,
    catalogue.unit,
    case when catalogue.unit = 'money' then '{{ rule("reporting_currency") }}' end as currency,
    catalogue.direction,
    catalogue.kind,
    catalogue.grains,
    {{ catalogue_segments('catalogue.segments') }} as segments,
    catalogue.window_days,
    catalogue.dashboards,
    catalogue.reports,
    catalogue.requirement_refs,
    catalogue.definition
from {{ ref('metric_catalogue') }} as catalogue
left join {{ ref('metric_owners') }} as owners on catalogue.domain = owners.domain
