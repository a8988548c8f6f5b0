-- Grain: application, query_hour. The database's statements: calls, time, slow calls.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'query_hour'], affected_by=['query_hour'], touches=['query_hour'],
    indexes=[{'columns': ['query_hour']}]
) }}

with statements as (
    {{ rows_in_windows('stg_query_stats', 'window_start', 'query_hour') }}
)

select
    application,
    {{ start_of('hour', 'window_start') }} as query_hour,
    sum(calls) as calls,
    sum(total_ms) as total_ms,
    sum(slow_calls) as slow_calls
from statements
group by 1, 2
