-- Who has yet to hear of an alert or a report, and who has: one row for each of them and each address, so that one address that fails
-- has nobody else told twice.
create table audit.outbox (
    outbox_id bigint generated always as identity primary key, what text not null, about text not null, event text not null,
    instance text not null, route text, address text not null, queued_at timestamptz not null, sent_at timestamptz,
    given_up_at timestamptz, attempts int not null default 0, problem text, unique (what, about, event, instance, address)
);
-- No sample is taken of the names that wait to be erased: it would be a copy of them.
alter table audit.erasure_ids set (autovacuum_enabled = off);
-- When the process that holds the lease began: one that has its number later is another.
alter table audit.writer_lease add column process_began text;
create index outbox_pending on audit.outbox (what) where sent_at is null and given_up_at is null;
