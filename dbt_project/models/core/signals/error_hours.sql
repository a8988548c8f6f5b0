-- Grain: application, service, level, error_hour. Errors that the error tracker reported.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'service', 'level', 'error_hour'], affected_by=['error_hour'], touches=['error_hour'],
    indexes=[{'columns': ['error_hour']}]
) }}

with errors as (
    {{ rows_in_windows('stg_error_events', 'occurred_at', 'error_hour') }}
)

select
    application,
    coalesce(service, '(unknown)') as service,
    level,
    {{ start_of('hour', 'occurred_at') }} as error_hour,
    count(*) as errors
from errors
group by 1, 2, 3, 4
