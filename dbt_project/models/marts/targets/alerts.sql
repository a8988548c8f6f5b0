-- Grain: alert_id. Each stretch of complete periods in which a due target was yellow or red: it opens with the end of the first of
-- them and closes with the end of the first period that is green again; periods that cannot be judged change nothing.
{{ config(meta={'key': ['alert_id']}) }}

with targets as (
    select * from {{ ref('judged_targets') }}
),

judged as (
    select
        periods.target_id,
        periods.period_end,
        periods.value,
        periods.zone,
        count(*) filter (where periods.zone = 'green')
            over (partition by periods.target_id order by periods.period_start) as greens_before
    from {{ ref('target_periods') }} as periods
    inner join targets on periods.target_id = targets.target_id
    where periods.zone != 'unknown' and targets.due_at < periods.period_end
),

-- a green period begins the next stretch, and closes the one before
stretches as (
    select
        target_id,
        greens_before,
        min(period_end) filter (where zone != 'green') as opened_at,
        max(period_end) filter (where zone != 'green') as last_bad_at,
        bool_or(zone = 'red') as was_red,
        (array_agg(value order by period_end desc) filter (where zone != 'green'))[1] as value
    from judged
    group by target_id, greens_before
),

greens as (
    select
        target_id,
        greens_before,
        period_end
    from judged
    where zone = 'green'
)

select
    md5(stretches.target_id || stretches.opened_at::text) as alert_id,
    stretches.target_id,
    targets.metric_id,
    targets.application,
    targets.segment,
    targets.segment_value,
    targets.grain,
    case when stretches.was_red then 'critical' else 'warning' end as severity,
    stretches.opened_at,
    greens.period_end as closed_at,
    stretches.value,
    case
        when targets.trend is not null then null
        when stretches.was_red then coalesce(targets.red, targets.critical, targets.target)
        else coalesce(targets.green, targets.warning, targets.target)
    end as threshold,
    coalesce(targets.action, 'notify owner') as action,
    targets.alert_latency
from stretches
inner join targets on stretches.target_id = targets.target_id
left join greens
    on stretches.target_id = greens.target_id
    and stretches.greens_before + 1 = greens.greens_before
where stretches.opened_at is not null
