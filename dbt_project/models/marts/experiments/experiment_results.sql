-- Grain: experiment, variant, application. Visitors exposed to each variant (their first exposure decides), those that reached the goal from then on,
-- and the statistical confidence of the difference from the control: Wilson intervals of 95 % and a two-proportion z-test. The
-- control is the variant of that name, else the first by name. Application 'all' is the company. Where no event of the goal's name ever came, nobody
-- knows who reached it: what converted and all that follows from it is null.
{{ config(time_dependent=false, meta={'key': ['experiment', 'variant', 'application']}) }}

with seen_goals as (
    select distinct event_name as goal
    from {{ ref('experiment_events') }}
    where event_name != 'experiment.exposed'
),

visitors as (
    select
        visitors.*,
        bool_or(seen_goals.goal is not null) over (partition by visitors.experiment, visitors.application) as is_measured
    from {{ ref('experiment_visitors') }} as visitors
    left join seen_goals on visitors.goal = seen_goals.goal
),

counted as (
    select
        experiment,
        variant,
        application,
        count(*) as exposed,
        case when is_measured then count(*) filter (where is_converted) end as converted
    from visitors
    group by experiment, variant, application, is_measured
),

controls as (
    select distinct on (experiment, application)
        experiment,
        application,
        variant,
        exposed,
        converted
    from counted
    order by experiment, application, variant != 'control', variant
),

compared as (
    select
        counted.*,
        controls.variant as control,
        counted.converted::double precision / counted.exposed as share,
        controls.converted::double precision / controls.exposed as control_share,
        (counted.converted + controls.converted)::double precision / (counted.exposed + controls.exposed) as pooled,
        controls.exposed as control_exposed,
        1.959963984540054::double precision as z
    from counted
    inner join controls on counted.experiment = controls.experiment and counted.application = controls.application
)

select
    experiment,
    variant,
    application,
    control,
    exposed,
    converted,
    round((100 * share)::numeric, 6) as conversion_percent,
    case when variant != control and control_share > 0 then round((100 * (share / control_share - 1))::numeric, 6) end as uplift_percent,
    case
        when variant != control and pooled > 0 and pooled < 1 then round(erfc(
            abs(share - control_share) / sqrt(pooled * (1 - pooled) * (1.0 / exposed + 1.0 / control_exposed)) / sqrt(2::double precision)
        )::numeric, 9)
    end as p_value,
    round((100 * (share + z * z / (2 * exposed) - z * sqrt(share * (1 - share) / exposed + z * z / (4 * exposed::double precision * exposed)))
        / (1 + z * z / exposed))::numeric, 6) as conversion_percent_low,
    round((100 * (share + z * z / (2 * exposed) + z * sqrt(share * (1 - share) / exposed + z * z / (4 * exposed::double precision * exposed)))
        / (1 + z * z / exposed))::numeric, 6) as conversion_percent_high
from compared
