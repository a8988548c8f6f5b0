-- Runs that waited with their publication because they would restate more than somebody allowed: what was asked, and what was decided.
create table audit.approvals (
    run_id bigint primary key, restated bigint not null, allowed bigint not null, question text not null,
    asked_at timestamptz not null default clock_timestamp(), is_approved boolean, decided_by text, decided_at timestamptz
);
-- The models that a run was asked to rebuild, with everything made from them. Null: all of them.
alter table audit.runs add column rebuilds text[];
