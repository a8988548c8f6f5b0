-- Grain: account_id, feature. When a creator first used a feature; feature '' is the first of any.
{{ config(
    time_dependent=false, materialized='incremental', unique_key=['account_id', 'feature'],
    affected_by=['account_id'], touches=['counts_from'], indexes=[{'columns': ['account_id']}]
) }}

with creators as (
    select * from {{ ref('creators') }}
    where {{ only_affected('account_id') }}
),

uses as (
    select
        creators.account_id,
        creators.application,
        days.feature,
        greatest(days.first_at, creators.created_at) as counts_from,
        creators.deleted_at
    from {{ ref('feature_days') }} as days
    inner join creators on days.account_id = creators.account_id
    where creators.deleted_at is null or days.first_at < creators.deleted_at
)

select
    account_id,
    case when grouping(feature) = 1 then '' else feature end as feature,
    application,
    min(counts_from) as counts_from,
    min(deleted_at) as counts_until
from uses
group by grouping sets ((account_id, application, feature), (account_id, application))
