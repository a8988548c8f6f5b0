-- The tables that no model and no contract makes. Homes from before migrations have some or all of them, hence `if not exists`.
create sequence if not exists audit.run_ids;
create table if not exists audit.runs (
    run_id bigint primary key default nextval('audit.run_ids'),
    mode text not null, as_of timestamptz not null, is_full boolean, trigger text not null, source_dir text, mapping text,
    started_at timestamptz not null default clock_timestamp(), finished_at timestamptz,
    state text not null default 'running', stage text, message text, published_version bigint,
    code_version text, built_batch_id bigint, stage_seconds jsonb not null default '{}'
);
create table if not exists audit.writer_lease (
    only_one boolean primary key default true check (only_one), run_id bigint not null, holder text not null,
    host text not null, process_id bigint, taken_at timestamptz not null, lease_until timestamptz not null
);
create table if not exists audit.landing_batches (
    batch_id bigint generated always as identity primary key, run_id bigint, source text not null, entity text not null,
    started_at timestamptz not null default clock_timestamp(), finished_at timestamptz, files int not null default 0,
    rows_read bigint not null default 0, rows_inserted bigint not null default 0, rows_updated bigint not null default 0,
    rows_unchanged bigint not null default 0, rows_quarantined bigint not null default 0,
    rows_refused bigint not null default 0
);
create table if not exists audit.landed_files (
    source text, entity text, path text, fingerprint text not null, size bigint, batch_id bigint not null,
    rows_read bigint not null, rows_quarantined bigint not null, landed_at timestamptz not null default clock_timestamp(),
    primary key (source, entity, path)
);
create table if not exists audit.schema_drift (
    source text, entity text, column_name text, path text, rows bigint,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_seen_at timestamptz not null default clock_timestamp(), primary key (source, entity, column_name)
);
create table if not exists audit.checks (
    run_id bigint not null, boundary text not null, suite text not null, check_name text not null, severity text not null,
    success boolean not null, observed text, expected text, failing_rows bigint, sample jsonb, seconds numeric,
    checked_at timestamptz not null default clock_timestamp()
);
create index if not exists checks_run on audit.checks (run_id);
create table if not exists audit.model_runs (
    run_id bigint not null, unique_id text not null, name text not null, resource_type text not null,
    status text not null, seconds numeric, rows bigint, message text, primary key (run_id, unique_id)
);
create table if not exists audit.definitions (
    code_version text not null, model text not null, sql text not null, primary key (code_version, model)
);
create table if not exists audit.reconciliations (
    run_id bigint not null, entity text not null, measure text not null, source_total numeric, landed_total numeric,
    difference numeric, checked_at timestamptz not null default clock_timestamp()
);
alter table audit.reconciliations add column if not exists source text not null default 'files';
create table if not exists audit.source_states (
    source text not null, entity text not null, state jsonb not null, batch_id bigint not null,
    changed_at timestamptz not null default clock_timestamp(), primary key (source, entity)
);
create table if not exists audit.source_runs (
    run_id bigint not null, source text not null, system text not null, is_required boolean not null, succeeded boolean not null,
    message text, rows_read bigint not null, rows_landed bigint not null, rows_quarantined bigint not null,
    seconds numeric not null, finished_at timestamptz not null default clock_timestamp(), primary key (run_id, source)
);
create table if not exists audit.notices (
    key text primary key, rule text not null, source text not null, metric_id text not null, application text not null, segment text not null,
    segment_value text not null, severity text not null, action text not null, value numeric, threshold numeric, says text not null,
    page text not null, since timestamptz not null, opened_at timestamptz not null, last_seen_at timestamptz not null,
    quiet interval not null, closed_at timestamptz, told_at timestamptz, reminded_at timestamptz, told_closed_at timestamptz,
    acknowledged_at timestamptz, acknowledged_by text, muted_until timestamptz
);
create table if not exists audit.alert_evaluations (evaluated_at timestamptz not null, findings int not null);
create table if not exists audit.reports (
    report_id bigint generated always as identity primary key, report text not null, application text not null,
    period_start timestamptz not null, as_of timestamptz not null, published_version bigint not null, subject text not null,
    html text not null, text text not null, made_at timestamptz not null default clock_timestamp(), sent_at timestamptz,
    sent_to text[] not null default '{}', unique (report, application, period_start, published_version)
);
create table if not exists quarantine.rows (
    quarantine_id bigint generated always as identity primary key, source text not null, entity text not null, path text,
    line bigint, reasons text[] not null, row jsonb, batch_id bigint,
    quarantined_at timestamptz not null default clock_timestamp(), resolved_at timestamptz, resolution text
);
create index if not exists rows_file on quarantine.rows (source, entity, path) where resolved_at is null;
create table if not exists staging._replaced (
    entity text not null, batch_id bigint not null, replaced_at timestamptz not null default clock_timestamp(),
    row jsonb not null
);
create index if not exists _replaced_batch on staging._replaced (entity, batch_id);
create table if not exists core.run_context (
    only_one boolean primary key default true check (only_one), run_id bigint not null, mode text not null,
    as_of timestamptz not null, previous_as_of timestamptz, since_batch_id bigint not null, is_full boolean not null,
    rules jsonb not null
);
create table if not exists core.touched (fact text not null, touched_at timestamptz not null);
create index if not exists touched_fact on core.touched (fact);
create table if not exists core.touched_periods (model text not null, grain text not null, period_start timestamptz not null);
alter table quarantine.rows owner to loader;
alter table staging._replaced owner to loader;
alter table core.run_context owner to transformer;
alter table core.touched owner to transformer;
alter table core.touched_periods owner to transformer;
