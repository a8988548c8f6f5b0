-- Grain: application, integration, kind, call_hour. Calls to and from integrated applications.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'integration', 'kind', 'call_hour'], affected_by=['call_hour'], touches=['call_hour'],
    indexes=[{'columns': ['call_hour']}]
) }}

with calls as (
    {{ rows_in_windows('stg_integration_calls', 'occurred_at', 'call_hour') }}
)

select
    application,
    integration,
    coalesce(kind, '(unknown)') as kind,
    {{ start_of('hour', 'occurred_at') }} as call_hour,
    count(*) as calls,
    count(*) filter (where succeeded) as succeeded
from calls
group by 1, 2, 3, 4
