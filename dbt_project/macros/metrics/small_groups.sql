{#
Groups of people that are too small to be shown: with the setting `suppress_below: k` nothing of a segment is published that is about
fewer than k accounts (docs/privacy.md). Off by default, and then none of this makes a statement.

Which groups those are is decided once in a run, before its models, from the landed rows: the values of the segments that are attributes of
accounts (country, account_type, acquisition_channel, plan_tier), counted among those who registered and among those who ever paid, in each
application; the smaller count decides. A value is withheld in every application and in the company, for one could be told from the others.
As many next larger ones go with it until no application has a single withheld value, or fewer than k accounts behind all of them: what is
withheld cannot be reckoned from what is shown and the total.
#}

{% macro suppress_below() -%}
    {%- if not execute or target.name == 'marts' -%}{{ return(0) }}{%- endif -%}
    {{ return(run_context().rules.get('suppress_below', 0) | int) }}
{%- endmacro %}

{% macro find_small_groups() %}
    {%- set k = suppress_below() -%}
    {%- if k > 0 -%}
    drop table if exists {{ target.schema }}.small_groups;
    create table {{ target.schema }}.small_groups as
    with payers as (
        select distinct application, account_id, coalesce(plan_tier, '(unknown)') as plan_tier from staging.subscriptions
        where valid_from < {{ as_of() }} and status in {{ counted_statuses() }} and not {{ is_intercompany('account_id') }}
    ),

    members as (
        {% for segment in ['country', 'account_type', 'acquisition_channel'] %}
        select 'registered' as population, application, '{{ segment }}' as segment, coalesce({{ segment }}, '(unknown)') as segment_value, account_id
        from staging.accounts where created_at < {{ as_of() }}
        union all
        select 'paying', payers.application, '{{ segment }}', coalesce(accounts.{{ segment }}, '(unknown)'), payers.account_id
        from payers left join staging.accounts as accounts on payers.account_id = accounts.account_id
        union all
        {% endfor %}
        select 'paying', application, 'plan_tier', plan_tier, account_id from payers
        {%- if run_context().rules.get('legal_entities') %}
        {# an entity that accounts name is an attribute of them, and may be small in a large country #}
        union all
        select 'registered', application, 'entity', coalesce(entity, '(unknown)'), account_id from {{ with_derived('staging.accounts', ['country']) }} as own
        where created_at < {{ as_of() }} and exists (select 1 from staging.accounts where legal_entity is not null)
        union all
        select 'paying', application, 'entity', coalesce(entity, '(unknown)'), account_id
        from {{ with_derived('(select payers.application, payers.account_id, accounts.country, accounts.legal_entity from payers left join staging.accounts as accounts on payers.account_id = accounts.account_id)', ['country']) }} as own
        where exists (select 1 from staging.accounts where legal_entity is not null)
        {%- endif %}
    ),

    {# every part of a country that an account lies in, or a charge, which may name no entity though its account does #}
    places as (
        select accounts.application, accounts.country, given.legal_entity
        from staging.accounts as accounts
        cross join lateral (values (accounts.legal_entity), (null)) as given (legal_entity)
        where created_at < {{ as_of() }}
        union
        select payers.application, accounts.country, given.legal_entity
        from payers
        left join staging.accounts as accounts on payers.account_id = accounts.account_id
        cross join lateral (values (accounts.legal_entity), (null)) as given (legal_entity)
        union
        select charges.application, charges.country, charges.legal_entity from staging.charges as charges
        where charges.legal_entity is not null and created_at < {{ as_of() }}
    ),

    counted as (
        select population, coalesce(application, 'all') as application, segment, segment_value, count(distinct account_id) as accounts
        from members group by grouping sets ((population, application, segment, segment_value), (population, segment, segment_value))
    ),

    cells as (
        select application, segment, segment_value, min(accounts) as accounts from counted group by 1, 2, 3
    ),

    -- the smallest first: what is withheld is always a beginning of this row
    ranked as (
        select
            segment, segment_value, min(accounts) as smallest,
            row_number() over (partition by segment order by min(accounts), segment_value) as place
        from cells group by 1, 2
    ),

    withheld as (
        select
            ends.segment, ends.place, cells.application,
            count(*) as shown_or_not,
            count(*) filter (where ranked.place <= ends.place) as withheld_values,
            coalesce(sum(cells.accounts) filter (where ranked.place <= ends.place), 0) as withheld_accounts
        from ranked as ends
        inner join cells on ends.segment = cells.segment
        inner join ranked on cells.segment = ranked.segment and cells.segment_value = ranked.segment_value
        group by 1, 2, 3
    ),

    safe as (
        select segment, place from withheld group by 1, 2
        having bool_and(withheld_values in (0, shown_or_not) or (withheld_values > 1 and withheld_accounts >= {{ k }}))
    ),

    cut as (
        select safe.segment, min(safe.place) as place from safe
        inner join (select segment, count(*) as too_small from ranked where smallest < {{ k }} group by 1) as needed
            on safe.segment = needed.segment and safe.place >= needed.too_small
        group by 1
    )

    select segment, segment_value, min(accounts) as accounts, bool_or(is_too_small) as is_too_small
    from (
    select ranked.segment, ranked.segment_value, ranked.smallest as accounts, ranked.smallest < {{ k }} as is_too_small
    from ranked inner join cut on ranked.segment = cut.segment and ranked.place <= cut.place
    {% for segment in derived_segments() if segment == 'country_group' or run_context().rules.get('legal_entities') %}
    {# what holds a withheld country goes with it, since the others of it are shown #}
    union all
    select '{{ segment }}', coalesce(r.{{ segment }}, '(unknown)'), min(ranked.smallest), bool_or(ranked.smallest < {{ k }})
    from ranked
    inner join cut on ranked.segment = cut.segment and ranked.place <= cut.place
    inner join {{ with_derived('places', ['country']) }} as r
        on ranked.segment_value = coalesce(r.country, '(unknown)')
    where ranked.segment = 'country'
    {%- if segment == 'entity' and not run_context().rules.get('legal_entities') | selectattr('countries') | list %}
        {# whole applications are shown anyway #}
        and exists (select 1 from places where legal_entity is not null)
    {%- endif %}
    group by 1, 2
    {% endfor %}
    ) as groups_of_all group by 1, 2
    {%- endif -%}
{% endmacro %}

{# After a model: rows about few are taken out of it, before anything reads or audits it. #}
{% macro suppress_small_groups(target) %}
    {%- if model.name in small_rows() and suppress_below() > 0 -%}
    delete from {{ target }} where {{ small_rows()[model.name] | replace('$k', suppress_below() | string) | replace('$this', target | string) }};
    {%- endif -%}
{% endmacro %}

{#
The end of `series_states` where small groups are withheld. In an application a metric may know fewer values in a period than there are
groups: where one alone is withheld the smallest other one goes with it, in every application, and values that are 0 because nothing
happened are among them. That is reckoned by stretches: in the periods without a point the first of the others goes, in each period with
one the smallest.
#}
{% macro withheld_series() %}
small as (
    select * from {{ target.schema }}.small_groups
),

members as (
    select
        begun.*,
        small.segment_value is not null as is_small
    from begun
    left join small on begun.segment = small.segment and begun.segment_value = small.segment_value
    where begun.segment in (select segment from small)
),

spans as (
    select
        metric_id,
        grain,
        application,
        segment,
        period_start as span_from,
        lead(period_start) over (partition by metric_id, grain, application, segment order by period_start) as span_until
    from (select distinct metric_id, grain, application, segment, period_start from members) as beginnings
),

-- where one value alone is withheld: the first of the others stands for all that have no point
lone as (
    select
        spans.metric_id,
        spans.grain,
        spans.application,
        spans.segment,
        spans.span_from,
        spans.span_until,
        min(members.segment_value) filter (where not members.is_small) as first_other
    from spans
    inner join members
        on spans.metric_id = members.metric_id and spans.grain = members.grain and spans.application = members.application
        and spans.segment = members.segment and members.period_start <= spans.span_from
    group by 1, 2, 3, 4, 5, 6
    having count(*) filter (where members.is_small) = 1 and count(*) > 1
),

points as (
    {% for part in metric_parts() %}
    select
        metric_id,
        grain,
        application,
        segment,
        segment_value,
        period_start,
        numerator
    from {{ ref(part) }}
    where is_point and segment in (select segment from small)
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

others as (
    select
        lone.*,
        points.period_start,
        points.segment_value,
        points.numerator
    from lone
    inner join points
        on lone.metric_id = points.metric_id and lone.grain = points.grain and lone.application = points.application
        and lone.segment = points.segment and lone.span_from <= points.period_start
        and (lone.span_until is null or points.period_start < lone.span_until)
    left join small on points.segment = small.segment and points.segment_value = small.segment_value
    where small.segment_value is null
),

competing as (
    select
        metric_id,
        grain,
        application,
        segment,
        period_start,
        segment_value,
        numerator
    from others
    union all
    select distinct
        others.metric_id,
        others.grain,
        others.application,
        others.segment,
        others.period_start,
        others.first_other,
        case when shapes.is_zero_filled then 0 end
    from others
    inner join {{ ref('metric_shapes') }} as shapes
        on others.metric_id = shapes.metric_id and others.grain = shapes.grain and others.segment = shapes.segment
),

partners as (
    select distinct on (competing.metric_id, competing.grain, competing.application, competing.segment, competing.period_start)
        competing.metric_id,
        competing.grain,
        competing.application,
        competing.segment,
        competing.segment_value,
        tstzrange(periods.period_start, periods.period_end) as stretch
    from competing
    inner join {{ ref('periods') }} as periods on competing.grain = periods.grain and competing.period_start = periods.period_start
    order by
        competing.metric_id, competing.grain, competing.application, competing.segment, competing.period_start,
        coalesce(competing.numerator, 0) = 0, abs(competing.numerator), competing.segment_value
),

active as (
    select metric_id, grain, application, segment, range_agg(stretch) as stretches from partners group by 1, 2, 3, 4
),

withheld as (
    select metric_id, grain, segment, segment_value, range_agg(stretch) as stretches
    from (
        select metric_id, grain, segment, segment_value, tstzrange(null, null) as stretch from members where is_small
        union all
        select metric_id, grain, segment, segment_value, stretch from partners
        union all
        select
            lone.metric_id,
            lone.grain,
            lone.segment,
            lone.first_other,
            unnest(tstzmultirange(tstzrange(lone.span_from, lone.span_until)) - coalesce(active.stretches, '{}'))
        from lone
        left join active
            on lone.metric_id = active.metric_id and lone.grain = active.grain and lone.application = active.application
            and lone.segment = active.segment
    ) as withheld_stretches
    group by 1, 2, 3, 4
)

select
    begun.series_id,
    begun.metric_id,
    begun.grain,
    begun.application,
    begun.segment,
    begun.segment_value,
    begun.period_start as begins_at,
    parts.state,
    lower(parts.stretch) as holds_from,
    upper(parts.stretch) as holds_until
from begun
left join withheld
    on begun.metric_id = withheld.metric_id and begun.grain = withheld.grain and begun.segment = withheld.segment
    and begun.segment_value = withheld.segment_value
cross join lateral (
    select
        tstzmultirange(tstzrange(greatest(begun.period_start, begun.measured_from), null)) as stretches
    where begun.measured_from is not null
    union all
    select '{}'::tstzmultirange where begun.measured_from is null
) as measured
cross join lateral (
    select 'not_measured' as state, unnest(tstzmultirange(tstzrange(begun.period_start, null)) - measured.stretches) as stretch
    union all
    select begun.series_state, unnest(measured.stretches - coalesce(withheld.stretches, '{}'))
    union all
    select 'small_group', unnest(measured.stretches * coalesce(withheld.stretches, '{}'))
) as parts
{% endmacro %}

{# Marts whose rows are groups: which of them are not published. Where a group is a part of a published sum, the next larger goes with it. #}
{% macro small_rows() %}
    {{ return({
        'cohort_retention': 'cohort_size < $k',
        'experiment_results': 'exposed < $k',
        'funnel_stages': "(funnel, application, grain, period_start) in (select funnel, application, grain, period_start from $this "
            ~ "where stage_number = 1 and visitors between 1 and $k - 1)",
        'churn_reasons': "(month, cancel_reason) in (select month, cancel_reason from (select month, cancel_reason, "
            ~ "row_number() over (partition by application, month order by accounts, cancel_reason) as place, "
            ~ "count(*) filter (where accounts < $k) over (partition by application, month) as small from $this) as r "
            ~ "where small > 0 and place <= greatest(small, 2))",
        'user_paths': "(application, month, from_event) in (select application, month, from_event from $this where sessions < $k)",
    }) }}
{% endmacro %}
