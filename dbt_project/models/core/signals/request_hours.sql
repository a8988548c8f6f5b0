-- Grain: application, service, route, request_hour. Requests, failures (5xx), and the time spent on those that were timed.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'service', 'route', 'request_hour'], affected_by=['request_hour'], touches=['request_hour'],
    indexes=[{'columns': ['request_hour']}]
) }}

with requests as (
    {{ rows_in_windows('stg_api_requests', 'occurred_at', 'request_hour') }}
)

select
    application,
    service,
    coalesce(route, '(unknown)') as route,
    {{ start_of('hour', 'occurred_at') }} as request_hour,
    count(*) as requests,
    count(*) filter (where status_code between 500 and 599) as failed,
    count(*) filter (where is_critical) as critical,
    count(*) filter (where is_critical and status_code between 500 and 599) as failed_critical,
    sum(duration_ms) as duration_ms,
    count(duration_ms) as timed_requests
from requests
group by 1, 2, 3, 4
