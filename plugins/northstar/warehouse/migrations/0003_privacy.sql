-- Erased subjects, what keeps them from coming back, and the keys of the identifiers' hashes (by their fingerprints).
alter table audit.landing_batches add column rows_erased bigint not null default 0;
create table audit.erasures (
    erasure_id bigint generated always as identity primary key, requested_at timestamptz not null default clock_timestamp(),
    requested_by text not null, subjects text[] not null, state text not null default 'requested', published_version bigint,
    rows jsonb not null default '{}', finished_at timestamptz
);
create table audit.erasure_ids (
    erasure_id bigint not null, kind text not null, value text not null, replacement text not null, primary key (erasure_id, kind, value)
);
create table audit.tombstones (
    kind text not null, hash text not null, erasure_id bigint not null, primary key (kind, hash)
);
create table audit.pii_keys (
    generation int primary key, fingerprint text not null, since timestamptz not null default clock_timestamp(), published_version bigint
);
