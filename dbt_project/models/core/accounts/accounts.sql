-- Grain: account_id. The attributes of an account that segments and cohorts need.
{{ config(
    time_dependent=false, materialized='incremental', unique_key='account_id', affected_by=['account_id'],
    touches=['created_at', 'deleted_at'], indexes=[{'columns': ['account_id'], 'unique': true}]
) }}

select
    account_id,
    application,
    account_type,
    country,
    legal_entity,
    acquisition_channel,
    referred_by_account_id,
    telemetry_opt_in,
    email,
    created_at,
    deleted_at
from {{ ref('stg_accounts') }}
where {{ only_affected('account_id') }}
