-- Whose part of the numbers a subscription or a report has: the warehouse's name of a role of readers.yml; null in subscriptions and '' in reports
-- for who sees everything.
alter table audit.subscriptions add column role text;
drop index audit.subscriptions_once;
create unique index subscriptions_once on audit.subscriptions (page, choice, cadence, kind, target, coalesce(role, '')) where ended_at is null;
alter table audit.reports add column role text not null default '';
alter table audit.reports drop constraint reports_report_application_period_start_published_version_key;
create unique index reports_once on audit.reports (report, application, role, period_start, published_version);
