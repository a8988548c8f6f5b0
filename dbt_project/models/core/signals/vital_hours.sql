-- Grain: application, device, page, load_hour. Page loads with the scores that browsers measured.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'device', 'page', 'load_hour'], affected_by=['load_hour'], touches=['load_hour'],
    indexes=[{'columns': ['load_hour']}]
) }}

with loads as (
    {{ rows_in_windows('stg_web_vitals', 'occurred_at', 'load_hour') }}
)

select
    application,
    coalesce(device, '(unknown)') as device,
    coalesce(page, '(unknown)') as page,
    {{ start_of('hour', 'occurred_at') }} as load_hour,
    sum(lighthouse_score) as lighthouse_score,
    count(lighthouse_score) as lighthouse_loads,
    sum(accessibility_score) as accessibility_score,
    count(accessibility_score) as accessibility_loads,
    count(page_load_ms) as page_loads,
    count(lcp_ms) as lcp_loads,
    count(tti_ms) as tti_loads
from loads
group by 1, 2, 3, 4
