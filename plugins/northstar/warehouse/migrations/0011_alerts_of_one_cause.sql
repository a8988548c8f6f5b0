-- What an alert was compared with, what else was found of the same cause, and when it fired (the last 90 days; of targets the marts know more).
alter table audit.notices add column cause text not null default '';
alter table audit.notices add column compared_with text not null default '';
alter table audit.notices add column baseline numeric;
alter table audit.notices add column also text not null default '';
alter table audit.notices add column fired_at timestamptz[] not null default '{}';
alter table audit.notices add column fired_in_marts int not null default 0;
-- Keys name the cause now: what is open under an old key would never close.
update audit.notices set closed_at = clock_timestamp(), told_closed_at = clock_timestamp() where closed_at is null;
