-- The segment or part that contributes most to an alert.
alter table audit.notices add column contributes text not null default '';
