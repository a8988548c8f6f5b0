-- No clock ends a turn any more: a command's ends with its process, which holds a lock of the server, a DAG run's with the DAG run.
alter table audit.writer_lease drop column lease_until, add column is_dag_run boolean not null default false;
-- What dbt says of the code that a version was built with, as it is compressed: a run's stages may be on machines of their own.
create table audit.manifests (
    code_version text primary key, manifest bytea not null, noted_at timestamptz not null default clock_timestamp()
);
-- How an entity of a source was read: a connector, or options, that have changed since make its rows be read again.
alter table audit.source_states add column reading text;
-- While one has not ended, no run publishes.
create table audit.holds (
    hold_id bigint generated always as identity primary key, began_at timestamptz not null default clock_timestamp(), because text not null,
    by_whom text not null, ended_at timestamptz, ended_by text
);
create unique index holds_one on audit.holds ((true)) where ended_at is null;
