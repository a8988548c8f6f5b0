-- Grain: metric_id. The catalogue of metrics as contract/metrics.csv has it.
{{ config(meta={'key': ['metric_id']}, alias='metrics', schema='marts_candidate') }}

select
    metric_id,
    domain,
    level,
    unit,
    direction,
    kind,
    grains,
    segments,
    dashboards,
    reports,
    requirement_refs,
    definition
from {{ ref('metric_catalogue') }}
