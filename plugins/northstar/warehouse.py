"""The warehouse's fixed parts: databases, roles, schemas, landed tables, the audit's own tables.

Everything here is idempotent; a fingerprint of this file and of the contract makes a repeated call cost one query.
What dbt builds (core, marts_candidate, the staging views) and what publishing makes (marts, marts_history) is not here.
"""

import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from northstar import db
from northstar.contract import Entity, entities
from northstar.errors import NorthstarError
from northstar.settings import Settings

SCHEMAS = {
    "staging": "loader",
    "quarantine": "loader",
    "core": "transformer",
    "marts_candidate": "transformer",
    "marts": "publisher",
    "marts_history": "publisher",
    "audit": "northstar_owner",
}

# what a model gathers by the key of another entity
LOOKED_UP = {
    "messages": ("booking_id",),
    "reviews": ("booking_id",),
    "refunds": ("charge_id",),
    "ticket_events": ("ticket_id",),
}

AUDIT_TABLES = """
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
alter table audit.notices add column if not exists contributes text not null default '';
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
"""

GRANTS = """
grant usage on schema staging, quarantine, audit to loader, transformer, publisher;
grant create on schema staging to transformer;
grant select on all tables in schema staging to transformer;
grant select on all tables in schema quarantine to transformer, publisher;
grant usage on schema core, marts_candidate to publisher;
grant usage on schema marts to bi_reader;
grant usage on schema marts, marts_history to transformer;
grant select, insert, update, delete on all tables in schema audit to loader, transformer, publisher;
grant usage on all sequences in schema audit to loader, transformer, publisher;
alter default privileges for role loader in schema staging grant select on tables to transformer;
alter default privileges for role transformer in schema core grant select on tables to publisher;
alter default privileges for role transformer in schema marts_candidate grant select on tables to publisher;
alter default privileges for role publisher in schema marts grant select on tables to bi_reader, transformer;
alter default privileges for role publisher in schema marts_history grant select on tables to transformer;
grant select on core.run_context to publisher;
alter role transformer set timezone = 'UTC';
alter role loader set timezone = 'UTC';
alter role publisher set timezone = 'UTC';
alter role bi_reader set timezone = 'UTC';
revoke create on schema public from public;
"""


def bootstrap(settings: Settings) -> None:
    """Bring the warehouse of `settings` to this version's shape: databases, roles, schemas, tables.

    Raises NorthstarError when the warehouse cannot be reached or the administrator may not make what is needed.
    """
    database = db.DATABASE
    if settings.warehouse_url:
        database = settings.warehouse_url.rpartition("/")[2].partition("?")[0] or db.DATABASE
    else:
        _create_databases(settings)
    fingerprint = _fingerprint(settings)
    with db.connect(settings, "owner", database=database) as connection:
        if _is_current(connection, fingerprint):
            return
        try:
            _create(connection, settings, database)
        except psycopg.errors.InsufficientPrivilege as exc:
            raise NorthstarError(
                f"the administrator role may not set up the warehouse: {exc.diag.message_primary}"
            ) from exc
        connection.execute("create table if not exists audit.bootstrapped (fingerprint text primary key)")
        connection.execute("truncate audit.bootstrapped")
        connection.execute("insert into audit.bootstrapped values (%s)", [fingerprint])


def _create_databases(settings: Settings) -> None:
    with db.connect(settings, "owner", autocommit=True, database="postgres") as connection:
        known = {r["datname"] for r in connection.execute("select datname from pg_database").fetchall()}
        for name in {db.DATABASE, "airflow"} - known:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _is_current(connection, fingerprint: str) -> bool:
    if connection.execute("select to_regclass('audit.bootstrapped') as t").fetchone()["t"] is None:
        return False
    row = connection.execute("select fingerprint from audit.bootstrapped").fetchone()
    return row is not None and row["fingerprint"] == fingerprint


def _fingerprint(settings: Settings) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update((Path(__file__).parent / "contract" / "entities.yml").read_bytes())
    for role in db.ROLES:
        digest.update(db.password(settings, role).encode())
    return digest.hexdigest()


def _create(connection, settings: Settings, database: str) -> None:
    for role in db.ROLES:
        exists = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
        verb = "alter" if exists else "create"
        connection.execute(
            sql.SQL(verb + " role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                sql.Identifier(role), sql.Literal(db.password(settings, role))
            )
        )
    owner = connection.execute("select current_user as name").fetchone()["name"]
    for schema, schema_owner in SCHEMAS.items():
        role = owner if schema_owner == "northstar_owner" else schema_owner
        connection.execute(
            sql.SQL("create schema if not exists {} authorization {}").format(
                sql.Identifier(schema), sql.Identifier(role)
            )
        )
    connection.execute(
        sql.SQL("grant connect, temporary on database {} to loader, transformer, publisher").format(
            sql.Identifier(database)
        )
    )
    connection.execute(sql.SQL("revoke temporary on database {} from public").format(sql.Identifier(database)))
    connection.execute(AUDIT_TABLES)
    for entity in entities().values():
        connection.execute(landed_table(entity))
    connection.execute(GRANTS)
    connection.execute("alter role bi_reader set search_path = marts")
    connection.execute("alter role bi_reader set default_transaction_read_only = on")


def landed_table(entity: Entity) -> str:
    """DDL of `staging.<entity>`: the contract's columns, typed, with the landing's own ones."""
    columns = []
    for column in entity.stored_columns.values():
        if column.name == "application":
            columns.append("application text not null default 'default'")
            continue
        not_null = " not null" if column.required else ""
        columns.append(f'"{column.name}" {column.postgres_type}{not_null}')
    columns += ["_extra json", "_batch_id bigint not null", "_loaded_at timestamptz not null"]
    if entity.name == "subscriptions":
        columns.append("_is_overlapping boolean not null default false")
    # an older home's block ranges: later rows fill the gaps that a first load left in its pages, so each range had every batch
    indexes = [f"drop index if exists staging.{entity.name}_batch;"]
    # a block range would do for rows that came in order; a history that comes as it likes is searched through to find one hour
    indexes += [
        f"create index if not exists {name} on staging.{entity.name} ({column});"
        for name, column in side_indexes(entity).items()
    ]
    return "\n".join(
        [
            f"create table if not exists staging.{entity.name} ({', '.join(columns)});",
            f"create unique index if not exists {key_index(entity)} on staging.{entity.name}"
            f" ({', '.join(entity.key)}) nulls not distinct;",
            *indexes,
            f"alter table staging.{entity.name} owner to loader;",
        ]
    )


def side_indexes(entity: Entity) -> dict[str, str]:
    """{name: column} of the indexes beside the key's: they find the rows of a batch and of an hour, what comes into existence as
    as_of moves on, and what belongs to a changed row of another entity."""
    columns = ("_batch_id", entity.own_time, *entity.later_times, *LOOKED_UP.get(entity.name, ()))
    return {f"{entity.name}_{column}": column for column in columns}


def key_index(entity: Entity) -> str:
    """The name of the unique index on a landed table's key."""
    return f"{entity.name}_key"
