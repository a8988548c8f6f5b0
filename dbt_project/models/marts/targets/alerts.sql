-- Grain: alert_id. What changed and needs somebody: a stretch in which a due target was missed that had been met before, beyond what chance
-- explains; missed targets of one cause in one application are one alert. It closes with the first period that is green again, or when it has
-- lasted so long that it is a line in reports.
{{ config(meta={'key': ['alert_id']}) }}

with targets as (
    select
        targets.*,
        {{ alert_cause('targets.metric_id') }} as cause,
        coalesce(targets.green, targets.warning, targets.target, targets.critical) as first_limit,
        coalesce(targets.red, targets.critical) as critical_limit,
        case when targets.trend is null then targets.operator in ('>', '>=') else targets.trend = 'drop' end as is_floor,
        metrics.kind in ('ratio', 'mean', 'median', 'percentile') and metrics.metric_id not in {{ without_a_counted_base() }} as has_base,
        metrics.kind = 'ratio' and metrics.unit = 'percent' and metrics.metric_id not in {{ without_a_counted_base() }} as is_share,
        metrics.unit = 'count' as is_count,
        targets.trend is null and metrics.unit = 'count' and targets.operator = '<=' and targets.target = 0 as may_not_happen
    from {{ ref('judged_targets') }} as targets
    inner join {{ ref('metric_catalogue') }} as metrics on targets.metric_id = metrics.metric_id
),

-- a rate of few says nothing, neither that a target is missed nor that it is met
judged as (
    select
        periods.target_id,
        periods.period_start,
        periods.period_end,
        periods.numerator,
        periods.denominator,
        periods.value,
        periods.zone,
        count(*) filter (where periods.zone = 'green') over so_far as greens_before,
        count(*) over eight as periods_before,
        count(*) filter (where periods.zone = 'green') over eight as met_before,
        avg(periods.value) over eight as mean_before,
        stddev_samp(periods.value) over eight as deviation_before
    from {{ ref('target_periods') }} as periods
    inner join targets on periods.target_id = targets.target_id
    where
        periods.zone != 'unknown'
        and targets.due_at < periods.period_end
        and (not targets.has_base or periods.denominator >= {{ rule('alert_smallest_base') }})
    window
        so_far as (partition by periods.target_id order by periods.period_start),
        eight as (partition by periods.target_id order by periods.period_start rows between 8 preceding and 1 preceding)
),

-- each missed period beside what was usual before the stretch that it belongs to
missed as (
    select
        judged.target_id,
        judged.greens_before,
        judged.period_end,
        judged.value,
        judged.zone,
        targets.is_floor,
        targets.is_share,
        targets.is_count,
        targets.may_not_happen,
        targets.trend,
        targets.grain,
        targets.first_limit,
        targets.critical_limit,
        targets.alert_latency,
        case when targets.is_share then 100 * core.wilson_low(judged.numerator, judged.denominator, {{ rule('alert_confidence') }}) end
            as share_low,
        case when targets.is_share then 100 * core.wilson_high(judged.numerator, judged.denominator, {{ rule('alert_confidence') }}) end
            as share_high,
        first_value(judged.periods_before) over stretch as periods_before,
        first_value(judged.met_before) over stretch as met_before,
        first_value(judged.mean_before) over stretch as mean_before,
        first_value(judged.deviation_before) over stretch as deviation_before
    from judged
    inner join targets on judged.target_id = targets.target_id
    where judged.zone != 'green'
    window stretch as (partition by judged.target_id, judged.greens_before order by judged.period_start)
),

compared as (
    select
        *,
        -- eight values tell little of how far values spread: 4.8 deviations of theirs are as rare as 3 that are known (Student's t, D302)
        case when is_floor then mean_before - 4.8 * deviation_before else mean_before + 4.8 * deviation_before end as usual_limit,
        case
            when is_floor then coalesce(share_high, value) < critical_limit
            else coalesce(share_low, value) > critical_limit
        end as is_beyond_critical
    from missed
),

decided as (
    select
        *,
        case
            -- one is enough of what may not happen at all; before its first one there is no series
            when may_not_happen then periods_before - met_before <= 2
            when periods_before < 8 or met_before < 6 then false
            when is_share and trend is null then case when is_floor then share_high < first_limit else share_low > first_limit end
            when is_share then case
                when is_floor then value < usual_limit and share_high < mean_before
                else value > usual_limit and share_low > mean_before
            end
            when is_count and abs(value - mean_before) < {{ rule('alert_smallest_change') }} then false
            when is_floor then value < usual_limit
            else value > usual_limit
        end as is_beyond,
        coalesce(zone = 'red' and is_beyond_critical, false) or (may_not_happen and alert_latency = 'immediate') as is_critical
    from compared
),

-- the mean of one hour is soon beyond what eight hours were; of two in a row it says something
lasting as (
    select
        *,
        is_beyond and (
            grain != 'hour' or is_share or is_count
            or coalesce(lag(is_beyond) over (partition by target_id, greens_before order by period_end), false)
        ) as is_alert
    from decided
),

greens as (
    select
        target_id,
        greens_before,
        period_end
    from judged
    where zone = 'green'
),

stretches as (
    select
        target_id,
        greens_before,
        min(period_end) filter (where is_alert) as opened_at,
        bool_or(is_alert and is_critical) as was_critical,
        (array_agg(value order by period_end desc))[1] as value,
        min(mean_before) as baseline,
        min(usual_limit) as usual_limit
    from lasting
    group by target_id, greens_before
    having bool_or(is_alert)
),

-- a green period begins the next stretch, and closes the one before
missed_targets as (
    select
        stretches.target_id,
        targets.cause,
        targets.metric_id,
        targets.application,
        targets.segment,
        targets.segment_value,
        targets.grain,
        stretches.was_critical,
        stretches.opened_at,
        least(greens.period_end, stretches.opened_at + {{ rule('alert_days') }} * interval '24 hours') as over_at,
        stretches.value,
        case
            when targets.trend is not null then targets.trend
            when stretches.was_critical and targets.critical_limit is not null then 'critical threshold'
            when coalesce(targets.green, targets.warning) is not null then 'warning threshold'
            else 'target'
        end as rule,
        case
            when targets.trend is not null then stretches.usual_limit
            when stretches.was_critical then coalesce(targets.critical_limit, targets.first_limit)
            else targets.first_limit
        end as threshold,
        stretches.baseline,
        coalesce(targets.action, 'notify owner') as action,
        targets.alert_latency
    from stretches
    inner join targets on stretches.target_id = targets.target_id
    left join greens
        on stretches.target_id = greens.target_id
        and stretches.greens_before + 1 = greens.greens_before
),

of_one_cause as (
    select
        *,
        case when over_at <= {{ as_of() }} then over_at end as closed_at,
        max(over_at) over (
            partition by cause, application order by opened_at, target_id rows between unbounded preceding and 1 preceding
        ) as others_until
    from missed_targets
),

numbered as (
    select
        *,
        count(*) filter (where others_until is null or opened_at > others_until) over (
            partition by cause, application order by opened_at, target_id
        ) as alert_number
    from of_one_cause
),

-- the worst of the missed targets speaks for them: one that is missed still, the critical before a warning, the one that was first
ranked as (
    select
        *,
        min(opened_at) over alert as alert_opened_at,
        case when bool_and(closed_at is not null) over alert then max(closed_at) over alert end as alert_closed_at,
        bool_or(was_critical) over alert as alert_was_critical,
        count(*) over alert as targets_missed,
        row_number() over (
            partition by cause, application, alert_number
            order by closed_at desc nulls first, was_critical desc, opened_at, target_id
        ) as place
    from numbered
    window alert as (partition by cause, application, alert_number)
)

select
    md5(cause || '|' || application || '|' || extract(epoch from alert_opened_at)::bigint) as alert_id,
    target_id,
    cause,
    metric_id,
    application,
    segment,
    segment_value,
    grain,
    case when alert_was_critical then 'critical' else 'warning' end as severity,
    alert_opened_at as opened_at,
    alert_closed_at as closed_at,
    rule,
    value,
    threshold,
    baseline,
    targets_missed,
    count(*) filter (where alert_opened_at > {{ as_of() }} - interval '2160 hours') over (partition by cause, application)
        as fired_90_days,
    action,
    alert_latency
from ranked
where place = 1
