-- Grain: application, change_kind, change_id. Changes of the code, from the first commit to the deployment that brought them to production: merged
-- pull requests, and commits of none. The first successful deployment that has a change counts. One that names a known commit has what was
-- merged up to that commit (linked_by `sha`), any other what was merged before it started (`time`). The first of an application has the change that it
-- names and no other: what was merged earlier may have been deployed unseen.
{{ config(
    materialized='incremental', unique_key=['application', 'change_kind', 'change_id'], touches=['deployed_at']
) }}

with every_pull_request as (
    select * from {{ ref('stg_pull_requests') }}
),

pull_requests as (
    select * from every_pull_request
    where merged_at is not null
),

-- where no pull request was ever landed, nobody knows when those that commits name were merged
reviewed as (
    select distinct application
    from every_pull_request
),

commits as (
    select
        commits.application,
        commits.commit_sha,
        commits.committed_at,
        coalesce(case when reviewed.application is not null then commits.pull_request_id end, merged.pull_request_id) as pull_request_id
    from {{ ref('stg_commits') }} as commits
    left join reviewed on commits.application = reviewed.application
    left join pull_requests as merged on commits.application = merged.application and commits.commit_sha = merged.merge_commit_sha
),

changes as (
    select
        pull_requests.application,
        'pull_request' as change_kind,
        pull_requests.pull_request_id as change_id,
        least(min(commits.committed_at), pull_requests.merged_at) as began_at,
        pull_requests.merged_at
    from pull_requests
    inner join commits on pull_requests.application = commits.application and pull_requests.pull_request_id = commits.pull_request_id
    group by pull_requests.application, pull_requests.pull_request_id, pull_requests.merged_at
    union all
    select
        application,
        'commit',
        commit_sha,
        committed_at,
        committed_at
    from commits
    where pull_request_id is null
),

known_shas as (
    select
        commits.application,
        commits.commit_sha,
        changes.change_kind,
        changes.change_id,
        changes.merged_at
    from commits
    inner join changes on commits.application = changes.application and coalesce(commits.pull_request_id, commits.commit_sha) = changes.change_id
        and changes.change_kind = case when commits.pull_request_id is null then 'commit' else 'pull_request' end
    union
    select
        pull_requests.application,
        pull_requests.merge_commit_sha,
        'pull_request',
        pull_requests.pull_request_id,
        pull_requests.merged_at
    from pull_requests
    where pull_requests.merge_commit_sha is not null
),

deployments as (
    select
        deployments.application,
        deployments.deployment_id,
        deployments.started_at,
        known.change_kind,
        known.change_id,
        case when known.change_id is null then 'time' else 'sha' end as linked_by,
        -- nothing is deployed before it is merged
        least(known.merged_at, deployments.started_at) as has_all_until
    from {{ ref('stg_deployments') }} as deployments
    left join known_shas as known on deployments.application = known.application and deployments.commit_sha = known.commit_sha
    where deployments.status = 'succeeded'
),

-- an older commit that is deployed again brings nothing
progress as (
    select
        *,
        max(has_all_until) over (partition by application order by started_at, deployment_id, has_all_until) as reached
    from deployments
),

steps as (
    select distinct on (application, reached)
        *,
        row_number() over (partition by application order by started_at, deployment_id, has_all_until) = 1 as is_first
    from progress
    order by application, reached, started_at, deployment_id, has_all_until
),

timeline as (
    select
        application,
        change_kind,
        change_id,
        began_at,
        merged_at as happened_at,
        null::timestamptz as reached
    from changes
    union all
    select
        application,
        null,
        null,
        null,
        reached,
        reached
    from steps
),

-- the next step after each change: steps at the same instant have it too
followed as (
    select
        *,
        min(reached) over (
            partition by application order by happened_at desc, reached nulls last
            rows between unbounded preceding and current row
        ) as next_reached
    from timeline
)

select
    followed.application,
    followed.change_kind,
    followed.change_id,
    followed.began_at,
    followed.happened_at as merged_at,
    steps.deployment_id,
    steps.started_at as deployed_at,
    steps.linked_by,
    extract(epoch from steps.started_at - followed.began_at) / 3600 as lead_time_hours
from followed
left join steps on followed.application = steps.application and followed.next_reached = steps.reached
    and (not steps.is_first or (followed.change_kind = steps.change_kind and followed.change_id = steps.change_id))
where followed.change_id is not null
