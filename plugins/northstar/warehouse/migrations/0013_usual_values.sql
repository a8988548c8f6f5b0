-- What is usual for a column of landed rows, and what was not (docs/decisions.md, D180).
create table audit.column_profiles (
    entity text not null,
    application text not null,
    column_name text not null,
    -- rows with a value; has_names: whether there are few enough different ones to be known by name
    rows bigint not null,
    has_names boolean not null,
    last_new_at bigint not null,
    all_rows bigint not null,
    nulls bigint not null,
    sizes jsonb not null,
    primary key (entity, application, column_name)
);
create table audit.known_values (
    entity text not null,
    application text not null,
    column_name text not null,
    value text not null,
    rows bigint not null,
    deliveries bigint not null,
    absences bigint not null,
    is_noted boolean not null,
    primary key (entity, application, column_name, value)
);
create table audit.unusual_values (
    finding_id bigint generated always as identity primary key,
    entity text not null,
    application text not null,
    column_name text not null,
    kind text not null,
    value text not null,
    usual text not null,
    path text not null,
    what text not null,
    rows bigint not null,
    of_rows bigint not null,
    examples jsonb not null,
    batch_id bigint not null,
    found_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    closed_because text
);
create unique index unusual_values_open on audit.unusual_values (entity, application, column_name, kind, value, path) where closed_at is null;
-- Values that a home's values.yml has made others in the rows that had landed before.
create table audit.mapped_values (
    entity text not null,
    column_name text not null,
    value text not null,
    other text not null,
    rows bigint not null,
    batch_id bigint,
    mapped_at timestamptz not null default clock_timestamp(),
    primary key (entity, column_name, value)
);
