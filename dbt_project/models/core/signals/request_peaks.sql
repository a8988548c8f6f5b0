-- Grain: application, request_hour. How many requests the service api had in a clock hour, how many of them were timed, and
-- the 95th percentile of their durations; application 'all' is the company.
{{ config(
    time_dependent=false, materialized='incremental',
    unique_key=['application', 'request_hour'], affected_by=['request_hour'], touches=['request_hour'],
    indexes=[{'columns': ['request_hour']}]
) }}

with requests as (
    {{ rows_in_windows('stg_api_requests', 'occurred_at', 'request_hour') }}
)

select
    case when grouping(application) = 1 then 'all' else application end as application,
    {{ start_of('hour', 'occurred_at') }} as request_hour,
    count(*) as requests,
    count(duration_ms) as timed_requests,
    percentile_cont(0.95) within group (order by duration_ms) as p95_ms
from requests
where service = 'api'
group by grouping sets (({{ start_of('hour', 'occurred_at') }}, application), ({{ start_of('hour', 'occurred_at') }}))
