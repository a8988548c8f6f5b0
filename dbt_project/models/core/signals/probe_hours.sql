-- Grain: application, service, is_third_party, checked_hour. Uptime checks, and those that found the service up.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'service', 'is_third_party', 'checked_hour'], affected_by=['checked_hour'], touches=['checked_hour'],
    indexes=[{'columns': ['checked_hour']}]
) }}

with checks as (
    {{ rows_in_windows('stg_uptime_checks', 'checked_at', 'checked_hour') }}
)

select
    application,
    service,
    coalesce(is_third_party, false) as is_third_party,
    {{ start_of('hour', 'checked_at') }} as checked_hour,
    count(*) as checks,
    count(*) filter (where is_up) as up
from checks
group by 1, 2, 3, 4
