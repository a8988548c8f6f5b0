-- The files of the lake that count: the rows of a batch as parquet. A row is committed with the batch that it is about.
create table audit.lake_files (
    entity text not null, batch_id bigint not null, path text not null, rows bigint not null, bytes bigint not null,
    written_at timestamptz not null default clock_timestamp(), primary key (entity, batch_id)
);
-- What Spark handed over in a run: for each model its rows, and for each of its columns the sum and the nulls that were loaded.
create table audit.handovers (
    run_id bigint not null, model text not null, rows bigint not null, columns jsonb not null,
    loaded_at timestamptz not null default clock_timestamp(), primary key (run_id, model)
);
