-- Two applications' rows are two rows, also where a key is no id of its own: setup makes the indexes again, with the application.
drop index if exists staging.uptime_checks_key, staging.resource_samples_key, staging.query_stats_key, staging.creator_earnings_key,
staging.package_downloads_key;
-- Files in an entity's folder that no reader takes: they are told once, and `northstar status` shows them while they are there.
create table audit.unread_files (
    source text not null, entity text not null, path text not null, noted_at timestamptz not null default clock_timestamp(),
    primary key (source, entity, path)
);
