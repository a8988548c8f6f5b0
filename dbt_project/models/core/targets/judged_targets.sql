-- Grain: target_id. The targets with their due dates: counted from each application's first day (its first registration, unless the setting
-- first_days names another); the setting phases says when phases begin. due_at is infinity while a phase has no date. Amounts in another currency
-- than the reporting one are no targets.
with targets as (
    select * from {{ ref('targets') }}
    where currency is null or currency = '{{ rule("reporting_currency") }}'
),

first_days as (
    select
        application,
        {{ start_of('day', 'min(created_at)') }} as first_day
    from {{ ref('accounts') }}
    group by application
),

given_days (application, first_day) as (
    values
    {% for application, day in run_context().rules.get('first_days', {}).items() %}
    ('{{ application }}', timestamptz '{{ day }} 00:00:00+00'),
    {% endfor %}
    (null::text, null::timestamptz)
),

phases (application, phase, begins_at) as (
    values
    {% for application, days in run_context().rules.get('phases', {}).items() %}{% for phase, day in days.items() %}
    ('{{ application }}', '{{ phase }}', timestamptz '{{ day }} 00:00:00+00'),
    {% endfor %}{% endfor %}
    (null::text, null::text, null::timestamptz)
),

dated as (
    select
        targets.*,
        coalesce(given_days.first_day, first_days.first_day) as first_day,
        split_part(targets.due, ' ', 1) as due_unit,
        substring(targets.due from position(' ' in targets.due) + 1) as due_amount,
        phases.begins_at
    from targets
    left join first_days on targets.application = first_days.application
    left join given_days on targets.application = given_days.application
    left join phases on targets.application = phases.application and targets.due = 'phase ' || phases.phase
)

select
    concat_ws(
        ':', metric_id, application, grain, nullif(segment, ''), nullif(segment_value, ''), replace(requirement_ref, ':', '.')
    ) as target_id,
    metric_id,
    application,
    coalesce(segment, '') as segment,
    coalesce(segment_value, '') as segment_value,
    grain,
    operator,
    target,
    trend,
    warning,
    critical,
    green,
    red,
    alert_latency,
    action,
    due,
    requirement_ref,
    case
        when due is null then timestamptz '-infinity'
        when due_unit = 'month' then coalesce(first_day + due_amount::int * interval '1 month', 'infinity')
        when due_unit = 'week' then coalesce(first_day + due_amount::int * interval '1 week', 'infinity')
        else coalesce(begins_at, 'infinity')
    end as due_at
from dated
