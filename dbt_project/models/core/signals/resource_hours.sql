-- Grain: application, resource, sampled_hour. Utilisation of servers and databases.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'resource', 'sampled_hour'], affected_by=['sampled_hour'], touches=['sampled_hour'],
    indexes=[{'columns': ['sampled_hour']}]
) }}

with samples as (
    {{ rows_in_windows('stg_resource_samples', 'sampled_at', 'sampled_hour') }}
)

select
    application,
    resource,
    {{ start_of('hour', 'sampled_at') }} as sampled_hour,
    sum(cpu_percent) as cpu_percent,
    count(cpu_percent) as cpu_samples,
    sum(memory_percent) as memory_percent,
    count(memory_percent) as memory_samples,
    sum(network_latency_ms) as network_latency_ms,
    count(network_latency_ms) as latency_samples,
    max(concurrent_users) as concurrent_users
from samples
group by 1, 2, 3
