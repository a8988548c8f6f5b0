-- Grain: application, service, held_from. The states of services whose source logs changes of state, and how long each held: until the
-- service's next row, however long that takes.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['application', 'service', 'held_from'],
    affected_by=['application', 'service'], touches=['held_from', 'held_until'],
    indexes=[{'columns': ['application', 'service', 'held_from'], 'unique': true}]
) }}

select
    application,
    service,
    is_up,
    changed_at as held_from,
    lead(changed_at) over (partition by application, service order by changed_at) as held_until
from {{ rows_of_affected(ref('stg_service_states'), ['application', 'service']) }} as affected_states
