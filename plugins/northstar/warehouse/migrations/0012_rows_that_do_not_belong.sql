-- Rows of files whose key and cursor are those of another row of their batch, with other content; and one such key.
alter table audit.landing_batches add column rows_contradicted bigint not null default 0, add column contradicted_key text;
-- How many rows the delivery before this one had, under the same path; and the first run that no longer found the file.
alter table audit.landed_files add column rows_before bigint, add column missing_since_run bigint;
