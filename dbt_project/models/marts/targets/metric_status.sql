-- Grain: target_id. Each target with the newest complete value that can be judged, its zone and its distance to the target.
-- A target that is not due yet is green once it is met, and unknown before.
{{ config(meta={'key': ['target_id']}) }}

with targets as (
    select * from {{ ref('judged_targets') }}
),

ranked as (
    select
        *,
        lead(value) over newest_first as previous_value,
        row_number() over newest_first as place
    from {{ ref('target_periods') }}
    window newest_first as (partition by target_id order by period_start desc)
),

judged as (
    select
        targets.*,
        newest.period_start,
        newest.value,
        newest.previous_value,
        newest.zone as judged_zone,
        newest.is_target_met,
        targets.due_at <= {{ as_of() }} as is_due,
        -- a value from before the due date is not what was asked for
        coalesce(targets.due_at < newest.period_end, false) as is_judged_due
    from targets
    left join ranked as newest on targets.target_id = newest.target_id and newest.place = 1
)

select
    target_id,
    metric_id,
    application,
    segment,
    segment_value,
    grain,
    period_start,
    value,
    operator,
    target,
    warning,
    critical,
    case
        when judged_zone is null then 'unknown'
        when is_judged_due or coalesce(is_target_met, judged_zone = 'green') then judged_zone
        else 'unknown'
    end as zone,
    case when operator in ('>', '>=') then value - target else target - value end as distance,
    case when value > previous_value then 'up' when value < previous_value then 'down' when value = previous_value then 'flat' end
        as trend,
    previous_value,
    due,
    case when isfinite(due_at) then due_at end as due_at,
    is_due,
    alert_latency,
    action,
    requirement_ref
from judged
