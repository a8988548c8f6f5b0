{# What a changed row touches in the models of signals, where it is not derived (incremental/scopes.sql). #}

{# A state holds until the next one: what changed touches every hour from there on, and the hours since the last version go on in the newest state. #}
{% macro affected__state_hours() %}
    select hours.state_hour
    from (
        select least(
            timestamptz '{{ run_context().previous_as_of }}',
            (select min(touched_at) from core.touched where fact = '{{ ref("state_spans").identifier }}')
        ) as touched_from
    ) as onward
    cross join lateral generate_series(
        {{ start_of('hour', 'onward.touched_from') }},
        timestamptz '{{ run_context().as_of }}' - interval '1 microsecond', interval '1 hour'
    ) as hours (state_hour)
{% endmacro %}
