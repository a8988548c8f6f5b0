-- The journals of what is done beside the runs: backfills, each with its reason, and the upkeep of the warehouse.
create table audit.backfills (
    backfill_id bigint generated always as identity primary key, run_id bigint, from_at timestamptz not null, to_at timestamptz not null,
    reason text not null, asked_by text not null, sources text[] not null, started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz, rows_read bigint, rows_changed bigint, published_version bigint, message text
);
-- the range that a backfill builds again, whether or not a row in it has changed
alter table core.run_context add column restate_from timestamptz, add column restate_to timestamptz;
create table audit.maintenance (
    maintenance_id bigint generated always as identity primary key, run_id bigint, started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz, succeeded boolean, message text, did jsonb not null default '{}',
    -- the oldest published version that can still be read, verified and put back; null: all of them
    oldest_version bigint
);
