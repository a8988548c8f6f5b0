"""Least privilege: each role can do its work and nothing beside it, however it tries."""

import shutil
from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.use.query import query
from northstar.warehouse import db
from northstar.warehouse.embedded import ensure_running
from northstar.warehouse.rights import WRITERS
from northstar.warehouse.setup import bootstrap

# a lock that the publisher waits for; see northstar.publish.merge and northstar.use.alerts.evaluate
LOCKS = (
    "pg_advisory_lock(1)",
    "pg_try_advisory_lock(1)",
    "pg_advisory_xact_lock(1, 2)",
    "pg_try_advisory_xact_lock_shared(1)",
)
# past the tables' rights: files, programs, the disk, other sessions, the server's settings
BEYOND = (
    "copy (select 1) to program 'cat'",
    "copy (select 1) to '/tmp/northstar-copied'",
    "select pg_read_file('/etc/passwd')",
    "select pg_read_binary_file('PG_VERSION')",
    "select pg_ls_dir('.')",
    "select pg_stat_file('PG_VERSION')",
    "select pg_ls_logdir()",
    "select pg_current_logfile()",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select lo_from_bytea(0, 'x')",
    "select lo_import('/etc/passwd')",
    "select lo_export(1, '/tmp/northstar-exported')",
    "select pg_logical_emit_message(false, 'a', 'b')",
    "select pg_create_logical_replication_slot('a', 'pgoutput')",
    "select pg_switch_wal()",
    "checkpoint",
    "select pg_terminate_backend(pid) from pg_stat_activity",
    "select pg_cancel_backend(pid) from pg_stat_activity",
    "select pg_reload_conf()",
    "load 'auto_explain'",
    "set session_replication_role = replica",
    "set log_statement = 'none'",
    "set temp_file_limit = -1",
    "show config_file",
    "select * from pg_hba_file_rules",
    "select * from pg_authid",
    "select * from pg_shadow",
    "select * from pg_statistic",
    "create schema mine",
    "create table public.t (x int)",
    "create function public.f() returns int language sql as 'select 1'",
    "create table pg_catalog.t (x int)",
    "create publication p for table marts.metrics",
    "create event trigger e on ddl_command_start execute function suppress_redundant_updates_trigger()",
    "create role another",
    "grant northstar_owner to current_user",
    "alter role current_user superuser",
    "set role northstar_owner",
    "set session authorization northstar_owner",
    "alter default privileges for role northstar_owner grant all on tables to public",
)
OF_ANOTHER_ROLE = {
    "loader": (
        "select * from marts.metric_values",
        "insert into marts.metrics (metric_id) values ('x')",
        "select * from core.run_context",
        "select * from marts_candidate.metric_values",
        "select core.as_of()",
        "create view staging.v as select * from core.periods",
        "update audit.checks set success = true",
        "update audit.runs set state = 'published'",
        "delete from audit.writer_lease",
        "set role transformer",
        "alter default privileges for role publisher in schema marts grant select on tables to loader",
    ),
    "transformer": (
        "delete from staging.charges",
        "update staging.charges set amount = 0",
        "truncate staging.charges",
        "drop table staging.charges",
        "create trigger t before insert on staging.charges execute function suppress_redundant_updates_trigger()",
        "create rule r as on insert to staging.charges do instead nothing",
        "insert into quarantine.rows (source, entity, reasons) values ('x', 'y', '{}')",
        "delete from marts.metric_points",
        "insert into marts.publications (published_version) values (99)",
        "delete from marts_history.metric_points",
        "update audit.landing_batches set rows_read = 0",
        "update audit.reports set subject = 'x'",
        "set role publisher",
        "alter default privileges for role publisher in schema marts grant all on tables to transformer",
    ),
    "publisher": (
        "select * from staging.charges",
        "select * from staging.stg_charges",
        "select * from quarantine.rows",
        "delete from marts_candidate.fct_payments",
        "drop table core.periods",
        "create table core.t (x int)",
        "create view marts_candidate.v as select 1",
        "update audit.checks set success = true",
        "delete from audit.landing_batches",
        "set role loader",
    ),
    "bi_reader": (
        "select * from staging.events",
        "select * from core.run_context",
        "select core.as_of()",
        "select * from marts_candidate.metric_values",
        "delete from marts_history.metric_points",
        "insert into marts_at_version.pruned_versions values (1)",
        "create or replace view marts_at_version.metrics as select 1",
        "alter table marts_history.metric_points disable row level security",
        "set row_security = off; select * from marts_history.metric_points",
        "select * from quarantine.rows",
        "select * from audit.runs",
        "select nextval('audit.run_ids')",
        "insert into marts.metrics (metric_id) values ('x')",
        "delete from marts.metric_points",
        "truncate marts.metric_points",
        "lock table marts.metric_points in share mode",
        "select * from marts.metrics for update",
        "create table marts.t (x int)",
        "create index on marts.metrics (metric_id)",
        "create trigger t before insert on marts.metrics execute function suppress_redundant_updates_trigger()",
        "comment on table marts.metrics is 'x'",
        "alter table marts.metrics owner to bi_reader",
        # functions that read for their caller, and a block that builds its statement
        "select query_to_xml('select * from staging.charges', true, false, '')",
        "select table_to_xml('staging.charges', true, false, '')",
        "do $$ begin execute 'select * from staging.charges'; end $$",
        # whoever may make temporary objects can put them before those that others mean
        "create temp table metric_values (x int)",
        "create temp view metric_values as select 1",
        "create function pg_temp.lower(text) returns text language sql as 'select 1::text'",
        "set role publisher",
        "create extension dblink",
        # what the functions of `explain` use, and who they belong to
        "select explain.query_of('metrics_revenue', 0, 'mrr', 'value')",
        "select explain.require_shown('', now(), now(), 'all', '', '', 'month')",
        "select * from audit.explained",
        # who subscribed to what, and the tokens that end it
        "select token from audit.subscriptions",
        "update audit.subscriptions set target = 'me@example.org'",
        "create function subscriptions.finish(int) returns int language sql as 'select 1'",
        "set role explainer",
        "create function explain.models() returns int language sql as 'select 1'",
        *(f"select {lock}" for lock in LOCKS),
    ),
}
FORBIDDEN = [(role, statement) for role in db.ROLES for statement in (*BEYOND, *OF_ANOTHER_ROLE[role])]
# Postgres lets everybody say these, and they come to nothing
WITHOUT_EFFECT = (
    "grant select on marts.metrics to loader",
    "alter default privileges in schema marts grant select on tables to loader",
    "analyze marts.metrics",
)


@pytest.fixture(scope="module")
def connections(built):
    """A connection as each role, for all the tries."""
    opened = {role: db.connect(built, role) for role in db.ROLES}
    yield opened
    for connection in opened.values():
        connection.close()


def _try(connection, statement: str):
    """Execute, and leave no trace; a reader has put its read-only default away first."""
    try:
        connection.execute("set transaction read write")
        connection.execute(statement)
    finally:
        connection.rollback()


@pytest.mark.parametrize(("role", "statement"), FORBIDDEN)
def test_a_role_may_not(connections, role, statement):
    refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
    with pytest.raises(refusals) as refused:
        _try(connections[role], statement)
    # an extension that is not installed is not there for anybody
    assert not isinstance(refused.value, psycopg.errors.FeatureNotSupported) or "extension" in statement


@pytest.mark.parametrize("statement", WITHOUT_EFFECT)
def test_what_everybody_may_say_comes_to_nothing(connections, statement):
    connection = connections["bi_reader"]
    connection.execute("set transaction read write")
    connection.execute(statement)
    granted = connection.execute("select has_table_privilege('loader', 'marts.metrics', 'select') as may").fetchone()
    connection.rollback()
    assert not granted["may"]


def test_a_reader_sees_nothing_of_other_sessions_and_schemas(built):
    with (
        db.connect(built, "transformer") as other,
        db.connect(built, "bi_reader") as connection,
    ):
        other.execute("select 'a secret of somebody else'")
        seen = connection.execute(
            "select query, client_port, backend_xmin from pg_stat_activity where usename <> current_user"
        ).fetchall()
        assert seen and {r["query"] for r in seen} <= {"<insufficient privilege>", None}
        assert {r["client_port"] for r in seen} == {None}
        with connection.transaction(force_rollback=True), pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("set local search_path = staging, marts")
            connection.execute("select * from charges")
        schemas = connection.execute("select distinct schemaname from pg_stats").fetchall()
        assert {r["schemaname"] for r in schemas} - {"pg_catalog", "information_schema"} == {"marts"}


@pytest.mark.parametrize("role", db.ROLES)
@pytest.mark.parametrize("database", ["airflow", "postgres", "template1"])
def test_a_role_reaches_no_other_database(built, role, database):
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(db.uri(built, role, database))


def test_airflow_reaches_its_own_database_alone_and_is_no_superuser(built):
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(db.uri(built, db.AIRFLOW_ROLE))
    with psycopg.connect(db.uri(built, db.AIRFLOW_ROLE, db.AIRFLOW_DATABASE)) as connection:
        connection.execute("create table made_by_airflow (x int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("copy (select 1) to program 'cat'")
        connection.rollback()


def test_what_an_administrator_made_in_airflows_database_is_handed_over(warehouse):
    with db.connect(warehouse, "owner", database=db.AIRFLOW_DATABASE) as connection:
        connection.execute("create table made_earlier (id serial primary key)")
        connection.execute("create type kinds as enum ('a')")
    with db.connect(warehouse, "owner") as connection:
        connection.execute("update audit.bootstrapped set fingerprint = 'an earlier version'")
    bootstrap(warehouse)
    with psycopg.connect(db.uri(warehouse, db.AIRFLOW_ROLE, db.AIRFLOW_DATABASE)) as connection:
        connection.execute("alter type kinds add value 'b'")
        connection.execute("insert into made_earlier default values")
        connection.execute("drop table made_earlier")
        connection.execute("drop type kinds")


@pytest.mark.parametrize("role", [*db.ROLES, db.AIRFLOW_ROLE])
def test_no_role_of_the_job_can_do_what_an_administrator_can(built, role):
    with db.connect(built, "owner") as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = %s",
            [role],
        ).fetchone()
        groups = connection.execute(
            "select roleid::regrole::text as r from pg_auth_members where member = %s::regrole", [role]
        )
        assert not any(row.values()) and groups.fetchall() == []


def test_nothing_runs_with_the_rights_of_its_maker_but_what_only_reads_rows_and_what_begins_or_ends_a_subscription(
    built,
):
    with db.connect(built, "owner") as connection:
        definers = connection.execute(
            "select proname, pronamespace::regnamespace::text as schema, proowner::regrole::text as owner, proconfig, "
            "has_function_privilege('bi_reader', oid, 'execute') as is_open, has_function_privilege('loader', oid, 'execute') as is_public "
            "from pg_proc where prosecdef and pronamespace not in ('pg_catalog'::regnamespace)"
        ).fetchall()
        maker = connection.execute("select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'explainer'").fetchone()  # fmt: skip
        writable = connection.execute(
            "select c.oid::regclass::text as name from pg_class as c where relkind in ('r', 'p', 'v', 'm') and relnamespace != 'pg_catalog'::regnamespace "
            "and has_table_privilege('explainer', c.oid, 'insert, update, delete, truncate, trigger')"
        ).fetchall()
        views = connection.execute(
            "select relname, reloptions from pg_class where relkind = 'v' and relnamespace in ('marts'::regnamespace, 'marts_history'::regnamespace, 'marts_at_version'::regnamespace)"
        ).fetchall()
    assert {(d["schema"], d["owner"], *d["proconfig"], d["is_public"]) for d in definers} == {
        ("explain", "explainer", "search_path=pg_catalog, pg_temp", False),
        ("limited", "publisher", "search_path=pg_catalog, pg_temp", False),
        ("subscriptions", "publisher", "search_path=pg_catalog, pg_temp", False),
    }
    assert {d["proname"] for d in definers if d["is_open"]} == {
        "models",
        "value_of",
        "rows_of",
        "parts_of",
        "landed_of",
        "subscribe",
        "name_of",
        "finish",
    }
    assert not any(maker.values()) and writable == []
    # whoever reads the view needs the right to read what it reads
    assert {"metric_values", "readable_versions", "fct_payments"} <= {v["relname"] for v in views}
    assert all(v["reloptions"] == ["security_invoker=true"] for v in views)


def test_every_table_of_the_audit_says_who_writes_it(built):
    with db.connect(built, "owner") as connection:
        for row in connection.execute("select tablename as name from pg_tables where schemaname = 'audit'").fetchall():
            assert row["name"] in WRITERS, f"say in northstar.warehouse.rights.WRITERS who writes audit.{row['name']}"
            writers = connection.execute(
                sql.SQL("select r from unnest(%s::text[]) as r where has_table_privilege(r, {}, 'insert')").format(
                    sql.Literal(f"audit.{row['name']}")
                ),
                [list(db.ROLES)],
            ).fetchall()
            assert {w["r"] for w in writers} == set(WRITERS[row["name"]])


def test_a_reader_cannot_turn_its_read_only_default_into_rights(built):
    with db.connect(built, "bi_reader", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from marts.metric_points")


@pytest.mark.parametrize(
    "statement",
    [
        "commit; delete from core.touched",
        "set transaction read write; delete from core.touched",
        "commit; begin read write; create table core.pwn as select 1 as x; commit",
        "begin read write",
        "set session characteristics as transaction read write",
        "set role transformer",
        "reset session authorization",
    ],
)
def test_looking_back_writes_nothing(built, statement):
    with suppress(NorthstarError):
        query(built, statement, version=1)
    with pytest.raises(NorthstarError, match=r"permission denied|several statements|read-only transaction"):
        query(built, f"{statement}; delete from core.touched" if ";" not in statement else statement, version=1)
    # whatever a reader makes of its session, it is a reader's
    with db.connect(built, "bi_reader", autocommit=True) as connection:
        connection.execute("begin read write")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from core.touched")
        connection.execute("rollback")


def test_a_reader_does_not_hold_up_others_for_ever(built):
    with psycopg.connect(db.uri(built, "bi_reader")) as connection:
        settings = {
            name: connection.execute(f"show {name}").fetchone()[0]
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        }
        connection.execute("set statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(20)")
    assert settings == {
        "statement_timeout": "10min",
        "idle_in_transaction_session_timeout": "10min",
    }
    with db.connect(built, "owner") as connection:
        limits = connection.execute(
            "select rolconnlimit, current_setting('max_connections')::int as most, "
            "(select substr(c, 17) from unnest(rolconfig) as c where c like 'temp_file_limit=%') as temporary "
            "from pg_roles where rolname = 'bi_reader'"
        ).fetchone()
    assert 0 < limits["rolconnlimit"] <= limits["most"] / 2
    share = limits["rolconnlimit"] * int(limits["temporary"].removesuffix("MB")) * 2**20
    assert 0 < share <= shutil.disk_usage(built.home).total / 4


def test_who_changes_the_readers_settings_does_not_mislead_the_pages(built):
    with db.connect(built, "bi_reader") as connection:
        connection.execute("set transaction read write")
        connection.execute("alter role bi_reader set search_path = pg_catalog")
    try:
        with db.connect(built, "bi_reader") as connection:
            assert connection.execute("select count(*) as n from metrics").fetchone()["n"]
    finally:
        bootstrap(built)


def test_a_wrong_password_is_refused(built):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(db.uri(built, "bi_reader").replace(db.password(built, "bi_reader"), "wrong"))


def test_nobody_is_let_in_without_a_password_and_none_is_in_the_servers_log(built):
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"postgresql://bi_reader@127.0.0.1:{ensure_running(built).port}/northstar")
    log = (built.logs / "postgres.log").read_text(errors="replace")
    assert not any(db.password(built, role) in log for role in ("owner", *db.ROLES))
