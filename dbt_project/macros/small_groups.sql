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
    {%- set rows = run_query("select coalesce((rules ->> 'suppress_below')::int, 0) as k from core.run_context").rows -%}
    {{ return(rows[0]['k'] | int if rows | length else 0) }}
{%- endmacro %}

{% macro find_small_groups() %}
    {%- set k = suppress_below() -%}
    {%- if k > 0 -%}
    drop table if exists core.small_groups;
    create table core.small_groups as
    with payers as (
        select distinct application, account_id, coalesce(plan_tier, '(unknown)') as plan_tier from staging.subscriptions
        where valid_from < {{ as_of() }} and status in ('active', 'past_due')
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

    select ranked.segment, ranked.segment_value, ranked.smallest as accounts, ranked.smallest < {{ k }} as is_too_small
    from ranked inner join cut on ranked.segment = cut.segment and ranked.place <= cut.place
    {%- endif -%}
{% endmacro %}

{# After a model: what is about few is taken out of it, before anything reads or audits it. #}
{% macro suppress_small_groups() %}
    {%- if execute and (model.config.get('meta') or {}).get('mart') == 'metric_values' or model.name in small_rows() -%}
    {%- set k = suppress_below() -%}
    {%- if k > 0 and model.name in small_rows() -%}
    delete from {{ this }} where {{ small_rows()[model.name] | replace('$k', k | string) | replace('$this', this | string) }}
    {%- elif k > 0 -%}
    update {{ this }} as m set value = null, numerator = null, denominator = null, null_reason = 'small_group'
    from core.small_groups as s
    where m.segment = s.segment and m.segment_value = s.segment_value and m.null_reason is distinct from 'small_group';
    -- a metric may know fewer values in a period than there are groups: where one alone is withheld the smallest other one goes with it
    with lone as (
        select metric_id, grain, period_start, application, segment from {{ this }}
        where segment in (select segment from core.small_groups)
        group by 1, 2, 3, 4, 5 having count(*) filter (where null_reason = 'small_group') = 1 and count(*) > 1
    ),

    partners as (
        select distinct on (metric_id, grain, period_start, application, segment) metric_id, grain, period_start, segment, segment_value
        from {{ this }} inner join lone using (metric_id, grain, period_start, application, segment)
        where null_reason is distinct from 'small_group'
        order by metric_id, grain, period_start, application, segment, coalesce(numerator, 0) = 0, abs(numerator), segment_value
    )

    update {{ this }} as m set value = null, numerator = null, denominator = null, null_reason = 'small_group'
    from (select distinct * from partners) as p
    where m.metric_id = p.metric_id and m.grain = p.grain and m.period_start = p.period_start and m.segment = p.segment
        and m.segment_value = p.segment_value and m.null_reason is distinct from 'small_group'
    {%- endif -%}
    {%- endif -%}
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
