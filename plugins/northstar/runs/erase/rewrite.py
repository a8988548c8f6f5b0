"""Rewrite tables and begin the write-ahead log anew, so that deleted rows are on no page of the disk either."""

import time
from collections.abc import Callable, Collection
from typing import TypedDict

import psycopg

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.privacy.subjects import HASH_COLUMNS, PERSON_COLUMNS
from northstar.runs.erase.purge import KEPT_TABLES
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_all_as, fetch_one
from northstar.warehouse.schemas import SCHEMAS

# how long to wait for readers who hold a lock on a table, or whose transaction still sees the old rows
PATIENCE_SECONDS = 20


class Table(TypedDict):
    """A table by its schema and name."""

    schema: str
    table: str


def rewrite(settings: Settings, changed_tables: Collection[str], progress: Progress, advice: str) -> None:
    """Rewrite the tables that held names, and begin the write-ahead log anew, so that deleted rows are on no page either.

    changed_tables: `schema.table` of further tables to rewrite, besides those that have columns for names. Readers of a mart wait while it is
    rewritten. Raises NorthstarError when a session does not release a table or still sees the old rows; it names the session and
    ends with `advice`, which says what to do then.
    """
    database = None if settings.warehouse_url else db.DATABASE
    with db.connect(settings, "owner", autocommit=True, database=database) as connection:
        tables = fetch_all_as(Table, connection.execute(
            "select n.nspname as schema, c.relname as table from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where c.relkind = 'r' and n.nspname = any(%(schemas)s) and (exists (select 1 from pg_attribute as a where a.attrelid = c.oid "
            "and a.attname = any(%(columns)s)) or (n.nspname, c.relname) in (('staging', '_replaced'), ('quarantine', 'rows'), ('marts', 'open_alerts'), ('marts', 'recorded_marks')) "
            "or (n.nspname = 'audit' and c.relname != all(%(kept)s)) or n.nspname || '.' || c.relname = any(%(changed)s)) order by 1, 2",
            {
                "schemas": list(SCHEMAS),
                "changed": list(changed_tables),
                "columns": [*PERSON_COLUMNS, *HASH_COLUMNS],
                "kept": [t for t in KEPT_TABLES if t != "erasures"],
            },
        ))  # fmt: skip
        if not settings.warehouse_url:
            # an empty table keeps the sample of values that was taken while it had rows
            connection.execute(
                "select pg_clear_attribute_stats(schemaname, tablename, attname, inherited) from pg_stats "
                "where schemaname || '.' || tablename = any(%s)", [[f"{t['schema']}.{t['table']}" for t in tables]],
            )  # fmt: skip
        _await_snapshots(connection, advice)
    for_each_table(
        settings, tables, advice, lambda c, t: c.execute(f'vacuum (full, analyze) {t["schema"]}."{t["table"]}"')
    )
    if settings.warehouse_url:
        progress(
            "the administrator of an external warehouse has to clear its statistics and write-ahead log: docs/privacy.md says how"
        )
        return
    start_new_log(settings)


def start_new_log(settings: Settings) -> None:
    """Have the embedded server delete its samples of column values and the write-ahead log so far."""
    with db.connect(settings, "owner", autocommit=True, database=db.DATABASE) as connection:
        # the samples of column values
        connection.execute("vacuum full pg_catalog.pg_statistic")
        # for homes from before this was the default
        connection.execute("alter system set wal_recycle = off")
        connection.execute("select pg_reload_conf()")
        connection.execute("select pg_switch_wal()")
        connection.execute("checkpoint")


def _await_snapshots(connection: Connection, advice: str) -> None:
    """Wait until no transaction sees the warehouse as it was before: a rewritten table keeps rows that some transaction may still see.

    connection: an administrator's, in autocommit. Raises NorthstarError after PATIENCE_SECONDS, naming who still sees the old rows.
    """
    horizon = fetch_one(connection.execute("select pg_current_xact_id()::xid::text as x"))["x"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        holder = connection.execute(
            "select * from (select coalesce('a session of ' || usename, backend_type) || ' (process ' || pid || coalesce(', ' || nullif(application_name, ''), '') "
            "|| coalesce(', since ' || to_char(xact_start at time zone 'UTC', 'HH24:MI:SS') || ' UTC', '') || ')' as who, age(backend_xmin) as age "
            "from pg_stat_activity where pid <> pg_backend_pid() and backend_xmin is not null and datname = current_database() "
            "union all select 'the prepared transaction ' || gid, age(transaction) from pg_prepared_xacts where database = current_database() "
            "union all select 'the replication slot ' || slot_name, age(xmin) from pg_replication_slots where xmin is not null) as holders "
            "where age > age(%s::xid) order by age desc limit 1", [horizon],
        ).fetchone()  # fmt: skip
        if holder is None:
            return
        if time.monotonic() > deadline:
            raise NorthstarError(
                f"{holder['who']} still sees the old rows: they have been changed, but they are still on the disk; "
                f"end that session; {advice}"
            )
        time.sleep(0.2)


def for_each_table(
    settings: Settings, tables: list[Table], advice: str, action: Callable[[Connection, Table], object]
) -> None:
    for schema in dict.fromkeys(t["schema"] for t in tables):
        role = "owner" if SCHEMAS[schema] == "northstar_owner" else SCHEMAS[schema]
        database = None if settings.warehouse_url or role != "owner" else db.DATABASE
        with db.connect(settings, role, autocommit=True, database=database) as connection:
            connection.execute(f"set lock_timeout = '{PATIENCE_SECONDS}s'")
            for table in (t for t in tables if t["schema"] == schema):
                try:
                    action(connection, table)
                except psycopg.errors.LockNotAvailable as exc:
                    raise NorthstarError(
                        f"a reader has locked {schema}.{table['table']}: its rows have been changed, but the table could not be rewritten; "
                        f"end that session; {advice}"
                    ) from exc
