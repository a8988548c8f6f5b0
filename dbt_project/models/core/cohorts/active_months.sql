-- Grain: account_id, application, month. The calendar months in which an account was active, with its activity cohort. The
-- application is the account's own; the events' where nothing is known of the account, which then has no cohort.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['account_id', 'application', 'month'],
    affected_by=['account_id', 'month'],
    scope_of={
        'active_accounts': {'month': start_of('month', 'activity_on::timestamp') ~ '::date'},
        'accounts': {
            'through': 'active_accounts', 'on': 'account_id',
            'month': start_of('month', 'related.activity_on::timestamp') ~ '::date',
        },
    },
    touches=['month'],
    indexes=[{'columns': ['account_id', 'month']}, {'columns': ['month']}]
) }}

select
    active.account_id,
    coalesce(active.home_application, active.application) as application,
    {{ start_of('month', 'active.activity_on::timestamp') }}::date as month,
    active.account_type,
    {{ start_of('month', 'accounts.created_at') }}::date as cohort_month
from {{ rows_of_affected(ref('active_accounts'), ['account_id']) }} as active
left join {{ ref('accounts') }} as accounts on active.account_id = accounts.account_id
where {{ only_affected('active.account_id, ' ~ start_of('month', 'active.activity_on::timestamp') ~ '::date') }}
group by 1, 2, 3, 4, 5
