-- What the retention of an entity's details emptied: versions from before cannot be made again to the byte.
create table audit.details_forgotten (
    run_id bigint not null, entity text not null, older_than timestamptz not null, rows bigint not null,
    forgotten_at timestamptz not null default clock_timestamp()
);
