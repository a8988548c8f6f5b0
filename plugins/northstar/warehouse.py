"""The warehouse's fixed parts: databases, roles, schemas, landed tables, the audit's own tables.

Roles, schemas, landed tables and grants are compared with what they should be and brought there; the audit's own tables change by
numbered migrations (northstar.migrations). A fingerprint of all that makes a repeated call cost one query.
What dbt builds (core, marts_candidate, the staging views) and what publishing makes (marts, marts_history) is not here.
"""

import contextlib
import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from northstar import db, migrations
from northstar.contract import Column, Entity, entities
from northstar.errors import NorthstarError
from northstar.settings import Settings

LOCK = 0x6E735F6D69677261  # "ns_migra"
LOCK_SECONDS = 120

SCHEMAS = {
    "staging": "loader",
    "quarantine": "loader",
    "core": "transformer",
    "marts_candidate": "transformer",
    "marts": "publisher",
    "marts_history": "publisher",
    "audit": "northstar_owner",
}

# how Postgres calls the contract's types that have a short name
FULL_NAMES = {"timestamptz": "timestamp with time zone"}

# what a model gathers by the key of another entity
LOOKED_UP = {
    "messages": ("booking_id",),
    "reviews": ("booking_id",),
    "refunds": ("charge_id",),
    "ticket_events": ("ticket_id",),
}

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
revoke insert, update, delete on audit.migrations from loader, transformer, publisher;
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


def bootstrap(settings: Settings, is_forced: bool = False) -> None:
    """Bring the warehouse of `settings` to this version's shape: databases, roles, schemas, tables; in one transaction, one at a time.

    is_forced: also when nothing of this version has changed since, as after somebody's hand in it.
    Raises NorthstarError when the warehouse cannot be reached, the administrator may not make what is needed, a newer version
    has been at work on it, or a migration fails: then everything is as it was.
    """
    database = db.DATABASE
    if settings.warehouse_url:
        database = settings.warehouse_url.rpartition("/")[2].partition("?")[0] or db.DATABASE
    else:
        _create_databases(settings)
    fingerprint = _fingerprint(settings)
    try:
        with db.connect(settings, "owner", database=database) as connection:
            if not is_forced and _is_current(connection, fingerprint):
                return
            # what was read is locked until the transaction ends: two who wait for each other's look would wait for ever
            connection.commit()
            connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            if not is_forced and _is_current(connection, fingerprint):
                return
            _create(connection, settings, database)
            connection.execute("create table if not exists audit.bootstrapped (fingerprint text primary key)")
            connection.execute("delete from audit.bootstrapped")
            connection.execute("insert into audit.bootstrapped values (%s)", [fingerprint])
    except psycopg.errors.InsufficientPrivilege as exc:
        raise NorthstarError(
            f"the administrator role may not set up the warehouse: {exc.diag.message_primary}"
        ) from exc
    except psycopg.errors.LockNotAvailable as exc:
        raise NorthstarError(
            f"somebody holds what this version has to change for more than {LOCK_SECONDS} s; let the run that is under way end, and run again"
        ) from exc
    except migrations.MigrationFailed as exc:
        with contextlib.suppress(psycopg.Error), db.connect(settings, "owner", database=database) as connection:
            exc.note(connection)
        raise


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
    for migration in migrations.migrations():
        digest.update(migration.text.encode())
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
    migrations.apply(connection)
    standing = landed_columns(connection)
    for entity in entities().values():
        if entity.name in standing:
            _follow_contract(connection, entity, standing[entity.name])
        connection.execute(landed_table(entity))
    connection.execute(GRANTS)
    connection.execute("alter role bi_reader set search_path = marts")
    connection.execute("alter role bi_reader set default_transaction_read_only = on")


def landed_columns(connection) -> dict[str, dict]:
    """{landed table: {column: {'type', 'not_null'}}} as the warehouse has them."""
    rows = connection.execute(
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null from pg_attribute as a "
        "join pg_class as c on c.oid = a.attrelid where c.relnamespace = 'staging'::regnamespace and c.relkind = 'r' "
        "and c.relname = any(%s) and a.attnum > 0 and not a.attisdropped",
        [list(entities())],
    ).fetchall()
    found: dict[str, dict] = {}
    for row in rows:
        found.setdefault(row["relname"], {})[row["attname"]] = row
    return found


def _follow_contract(connection, entity: Entity, standing: dict) -> None:
    """Add to a landed table what the contract has come to know, and demand no more what it demands no longer; its rows stay.

    Raises NorthstarError for a column of another type: only a migration knows how its values become the new ones.
    """
    table = sql.Identifier("staging", entity.name)
    for column in entity.stored_columns.values():
        name, there = sql.Identifier(column.name), standing.get(column.name)
        if there is None:
            # required or not: the rows that are there have none
            connection.execute(sql.SQL("alter table {} add column {} {}").format(table, name, sql.SQL(_kind(column))))
        elif there["type"] != FULL_NAMES.get(column.postgres_type, column.postgres_type):
            raise NorthstarError(
                f"staging.{entity.name}.{column.name} is {there['type']} and the contract says {column.postgres_type}: "
                "a column's type changes by a migration (plugins/northstar/migrations)"
            )
        elif there["not_null"] and not column.required and column.name != "application":
            connection.execute(sql.SQL("alter table {} alter column {} drop not null").format(table, name))
    for name in standing.keys() - set(entity.stored_columns):
        if not name.startswith("_") and standing[name]["not_null"]:
            # the contract forgot it, the rows did not
            connection.execute(
                sql.SQL("alter table {} alter column {} drop not null").format(table, sql.Identifier(name))
            )


def landed_table(entity: Entity) -> str:
    """DDL of `staging.<entity>`: the contract's columns, typed, with the landing's own ones."""
    columns = []
    for column in entity.stored_columns.values():
        columns.append(f'"{column.name}" {_kind(column)}{" not null" if column.required else ""}')
    columns += ["_extra json", "_batch_id bigint not null", "_loaded_at timestamptz not null"]
    if entity.name == "subscriptions":
        columns.append("_is_overlapping boolean not null default false")
    # a block range would do for rows that came in order; a history that comes as it likes is searched through to find one hour,
    # and later batches fill the gaps that a first load left in the pages
    indexes = [
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


def _kind(column: Column) -> str:
    return "text not null default 'default'" if column.name == "application" else column.postgres_type


def side_indexes(entity: Entity) -> dict[str, str]:
    """{name: column} of the indexes beside the key's: they find the rows of a batch and of an hour, what comes into existence as
    as_of moves on, and what belongs to a changed row of another entity."""
    columns = ("_batch_id", entity.own_time, *entity.later_times, *LOOKED_UP.get(entity.name, ()))
    return {f"{entity.name}_{column}": column for column in columns}


def key_index(entity: Entity) -> str:
    """The name of the unique index on a landed table's key."""
    return f"{entity.name}_key"
