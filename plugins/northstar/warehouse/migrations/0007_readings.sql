-- How a file was read (a digest of its mapping and of its entity in the contract) and when it was changed last; null where an older
-- release read it, which stands for the way it is read now. And who said that rejected rows may be missing from what is published.
alter table audit.landed_files add column if not exists reading text;
alter table quarantine.rows add column if not exists accepted_at timestamptz;
alter table quarantine.rows add column if not exists accepted_by text;
alter table quarantine.rows add column if not exists accepted_because text;
