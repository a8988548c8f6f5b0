-- Grain: metric_id, grain, period_start, application, segment, segment_value. Creators: first steps, activity, content, earnings.
-- An account metric: application is the creator's own. Two metrics are defined by segment only; in their totals, creator_onboarding_step_rate is of
-- creators who took all three steps, creators_earning_over of the lowest threshold.
{{ config(
    materialized='incremental', unique_key=metric_key(),
    affected_by=['grain', 'period_start'],
    lags=['1 month'], scope_of={'creator_features': 'onward', 'stg_content_items': 'onward'},
    meta={'mart': 'metric_points'}, indexes=metric_indexes()
) }}
{% set grains = ['week', 'month'] %}

with creators as (
    select * from {{ ref('creators') }}
),

steps as (
    select
        creators.account_id,
        creators.application,
        creators.created_at as happened_at,
        outcomes.step,
        outcomes.is_taken
    from creators
    cross join lateral (values
        ('knowledge_base_uploaded', has_uploaded_knowledge),
        ('program_created', has_created_program),
        ('first_user_interaction', has_been_talked_to)
    ) as outcomes (step, is_taken)
),

active as (
    select
        account_id,
        coalesce(home_application, application) as application,
        activity_on::timestamptz as happened_at
    from {{ ref('active_accounts') }}
    where account_type = 'creator' and {{ at_or_after_affected('activity_on', grains=grains) }}
),

updates as (
    select
        days.account_id,
        creators.application,
        days.happened_on::timestamptz as happened_at
    from {{ ref('creator_event_days') }} as days
    inner join creators on days.account_id = creators.account_id
    where days.event_name in ('content.created', 'content.updated')
        and (creators.deleted_at is null or days.first_at < creators.deleted_at)
        and {{ at_or_after_affected('days.happened_on', grains=grains) }}
),

earned as (
    select
        months.*,
        previous_months.amount_reporting as amount_before,
        months.month as happened_at
    from {{ ref('creator_months') }} as months
    left join {{ ref('creator_months') }} as previous_months
        on months.creator_id = previous_months.creator_id
        and months.application = previous_months.application
        and months.month - interval '1 month' = previous_months.month
    where {{ at_or_after_affected('months.month', grains=['month']) }}
    union all
    -- who earned in the month before and nothing in this one
    select
        previous_months.creator_id,
        previous_months.application,
        previous_months.month + interval '1 month',
        0,
        previous_months.amount_reporting,
        previous_months.month + interval '1 month'
    from {{ ref('creator_months') }} as previous_months
    where previous_months.month + interval '1 month' < {{ as_of() }}
        and {{ at_or_after_affected("previous_months.month + interval '1 month'", grains=['month']) }}
        and not exists (
            select 1 from {{ ref('creator_months') }} as months
            where months.creator_id = previous_months.creator_id
                and months.application = previous_months.application
                and months.month = previous_months.month + interval '1 month'
        )
),

over_thresholds as (
    select
        earned.application,
        earned.happened_at,
        earned.creator_id,
        limits.threshold::text as threshold
    from earned
    inner join (values (1000), (5000), (10000)) as limits (threshold) on earned.amount_reporting > limits.threshold
),

items as (
    select
        content_item_id,
        application,
        created_at as happened_at,
        (kind = 'document')::int as documents,
        (kind = 'program')::int as programs
    from {{ ref('stg_content_items') }}
    union all
    select
        content_item_id,
        application,
        -- nothing is archived before it is made
        greatest(archived_at, created_at),
        -(kind = 'document')::int,
        -(kind = 'program')::int
    from {{ ref('stg_content_items') }}
    where archived_at is not null
),

adoptions as (
    select
        account_id,
        application,
        feature,
        counts_from as happened_at,
        1 as adopters
    from {{ ref('creator_features') }}
    union all
    select
        account_id,
        application,
        feature,
        counts_until,
        -1
    from {{ ref('creator_features') }}
    where counts_until is not null
),

any_adoptions as (
    select * from adoptions
    where feature = ''
),

named_adoptions as (
    select * from adoptions
    where feature != ''
),

series as (
    select * from {{ ref('series_creators') }}
),

totals as (
    select * from series
    where segment = ''
),

feature_series as (
    select * from series
    where segment = 'feature'
),

standing as (
    select * from {{ ref('accounts_by_period') }}
    where segment = ''
),

-- each cube is about one thing; they meet by period and series
by_start as (
    {{ cube('creators', {
        'new_creators': 'count(*)',
        'onboarded': 'count(*) filter (where r.has_onboarded)',
        'steps_taken': 'count(*) filter (where r.has_uploaded_knowledge and r.has_created_program and r.has_been_talked_to)',
    }, [], grains, 'created_at') }}
),

by_step as (
    select * from (
        {{ cube('steps', {'new_creators': 'count(*)', 'steps_taken': 'count(*) filter (where r.is_taken)'}, ['step'], grains) }}
    ) as stepped
    where segment = 'step'
),

by_activity as (
    {{ cube('active', {'active_creators': 'count(distinct r.account_id)'}, [], ['week']) }}
),

by_update as (
    {{ cube('updates', {'updating_creators': 'count(distinct r.account_id)'}, [], ['week']) }}
),

by_earning as (
    {{ cube('earned', {
        'earning_creators': 'count(*) filter (where r.amount_reporting > 0)',
        'grown_percent': 'sum(100 * (r.amount_reporting - r.amount_before) / r.amount_before) filter (where r.amount_before > 0)',
        'earned_before': 'count(*) filter (where r.amount_before > 0)',
    }, [], ['month']) }}
),

by_threshold as (
    {{ cube('over_thresholds', {'creators_over': 'count(distinct r.creator_id)'}, ['threshold'], ['month']) }}
),

-- every share of an application's creators, in every period in which it has some
having_creators as (
    select
        standing.grain,
        standing.period_start,
        standing.application,
        series.segment,
        series.segment_value,
        standing.registered_creators
    from standing
    inner join series on standing.application = series.application
    where standing.registered_creators != 0 and standing.grain in ({{ quoted(grains) }})
),

by_beginning as (
    select grain, period_start, application, segment, segment_value, new_creators, onboarded, steps_taken from by_start
    union all
    select grain, period_start, application, segment, segment_value, new_creators, null, steps_taken from by_step
),

without_features as (
    select * from series
    where segment != 'feature'
),

placed as (
    {{ in_series({
        'having_creators': ['registered_creators'],
        'by_beginning': ['new_creators', 'onboarded', 'steps_taken'],
        'by_activity': ['active_creators'],
        'by_update': ['updating_creators'],
        'by_earning': ['earning_creators', 'grown_percent', 'earned_before'],
        'by_threshold': ['creators_over'],
    }, 'without_features', grains) }}
),

items_standing as (
    {{ running_totals('items', 'totals', ['documents', 'programs'], [], ['month'], 'content_item_id') }}
),

any_standing as (
    {{ running_totals('any_adoptions', 'totals', ['adopters'], [], ['month'], 'account_id') }}
),

named_standing as (
    {{ running_totals('named_adoptions', 'feature_series', ['adopters'], ['feature'], ['month'], 'account_id') }}
),

adopted as (
    select * from any_standing
    union all
    select * from named_standing
),

with_features as (
    select * from series
    where segment in ('', 'feature')
),

per_creator as (
    {{ in_series({
        'having_creators': ['registered_creators'], 'adopted': ['adopters'], 'items_standing': ['documents', 'programs'],
    }, 'with_features', ['month']) }}
)

{{ metric_rows('placed', {
    'creator_onboarding_success_rate': ['onboarded', 'new_creators'],
    'creator_onboarding_step_rate': ['steps_taken', 'new_creators'],
    'creator_weekly_active_rate': ['active_creators', 'registered_creators'],
    'content_update_rate': ['updating_creators', 'registered_creators'],
    'creator_success_rate': ['earning_creators', 'registered_creators'],
    'creator_revenue_growth_rate': ['grown_percent', 'earned_before'],
    'creators_earning_over': ['creators_over', 'registered_creators'],
}) }}
union all
select * from ({{ metric_rows('per_creator', {
    'creator_feature_adoption_rate': ['adopters', 'registered_creators'],
    'documents_per_creator': ['documents', 'registered_creators'],
    'programs_per_creator': ['programs', 'registered_creators'],
}) }}) as standing_rows
