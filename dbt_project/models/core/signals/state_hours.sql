-- Grain: application, service, state_hour. For how long in the hour a service's state was known, and for how long it was up. A state holds
-- from its change until the next, and the newest until as_of. Before the first, and where the state is null, nothing is known.
{{ config(
    materialized='incremental', unique_key=['application', 'service', 'state_hour'], affected_by=['state_hour'], touches=['state_hour'],
    indexes=[{'columns': ['state_hour']}]
) }}

with states as (
    select
        application,
        service,
        is_up,
        held_from,
        coalesce(held_until, {{ as_of() }}) as held_until
    from {{ ref('state_spans') }}
    where is_up is not null
    {% if is_incremental() %}
    and coalesce(held_until, {{ as_of() }}) > (select min(state_hour) from affected_state_hours)
    {% endif %}
),

parts as (
    select
        states.application,
        states.service,
        states.is_up,
        hours.state_hour,
        extract(
            epoch from least(states.held_until, hours.state_hour + interval '1 hour') - greatest(states.held_from, hours.state_hour)
        ) as seconds
    from states
    cross join lateral generate_series(
        {% if is_incremental() %}
        greatest({{ start_of('hour', 'states.held_from') }}, (select min(state_hour) from affected_state_hours)),
        {% else %}
        {{ start_of('hour', 'states.held_from') }},
        {% endif %}
        states.held_until - interval '1 microsecond', interval '1 hour'
    ) as hours (state_hour)
)

select
    application,
    service,
    state_hour,
    sum(seconds) as observed_seconds,
    coalesce(sum(seconds) filter (where is_up), 0) as up_seconds
from parts
where {{ only_affected('state_hour') }}
group by application, service, state_hour
