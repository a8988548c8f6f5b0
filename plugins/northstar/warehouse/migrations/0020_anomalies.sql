-- The version whose values were last judged for anomalies.
alter table audit.alert_evaluations add column anomalies_of bigint;
