"""The warehouse's fixed parts: databases, roles, schemas, landed tables, the audit's own tables.

Roles, schemas, landed tables and grants are compared with what they should be and changed accordingly. The tables of audit change by
numbered migrations (northstar.warehouse.migrations). A fingerprint of all this makes a repeated call cost one query.
What dbt builds (core, marts_candidate, the staging views) and what publishing makes (marts, marts_history) is not made here.
"""

import contextlib
import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from northstar.base.errors import NorthstarError, WarehouseUnreachable
from northstar.base.settings import PACKAGE, Settings
from northstar.contract import entities
from northstar.warehouse import (
    db,
    explain,
    landed_tables,
    marks,
    migrations,
    rights,
    role_settings,
    schemas,
    subscriptions,
)
from northstar.warehouse.landed_tables import follow_contract, landed_columns, landed_table_ddl
from northstar.warehouse.published import limited
from northstar.warehouse.rights import (
    GRANTS,
    grant_audit_tables,
    grant_connect,
    make_limited_roles,
    make_role,
    restrict_databases,
    revoke_unsafe_functions,
)
from northstar.warehouse.rows import Connection, fetch_one
from northstar.warehouse.schemas import SCHEMAS

LOCK = 0x6E735F6D69677261  # "ns_migra"
LOCK_SECONDS = 120
OLDEST_POSTGRES = 15


# the complementary error function, for servers before Postgres 16, which has it built in. Below 2.5 it is the series of Abramowitz and Stegun
# 7.1.6, from 2.5 on the continued fraction 7.1.14
ERFC = """
create or replace function core.erfc(x double precision) returns double precision language plpgsql immutable strict parallel safe as $body$
declare
    z constant double precision := abs(x);
    term double precision := z;
    total double precision := z;
    n int := 0;
begin
    if z > 26.6 then
        total := 0;
    elsif z < 2.5 then
        while term > total * 1e-17 loop
            n := n + 1;
            term := term * 2 * z * z / (2 * n + 1);
            total := total + term;
        end loop;
        total := 1 - 2 / sqrt(pi()) * exp(-z * z) * total;
    else
        total := z;
        for n in reverse 120..1 loop
            total := z + n / 2.0::double precision / total;
        end loop;
        total := exp(-z * z) / sqrt(pi()) / total;
    end if;
    return case when x < 0 then 2 - total else total end;
end
$body$
"""

# the bounds of Wilson's score interval for a share (Wilson 1927): between them the true share lies with the two-sided confidence that the
# setting alert_confidence names
WILSON = """
create or replace function core.wilson_bound(hits numeric, trials numeric, confidence double precision, side int) returns numeric
language sql immutable strict parallel safe as $body$
    select case when trials > 0 then
        ((share + z * z / (2 * n) + side * z * sqrt(greatest(0, share * (1 - share) / n + z * z / (4 * n * n)))) / (1 + z * z / n))::numeric
    end
    from (
        select trials::double precision as n, hits::double precision / nullif(trials, 0)::double precision as share,
            case confidence when 0.9 then 1.644854 when 0.95 then 1.959964 when 0.99 then 2.575829 when 0.999 then 3.290527 end
                ::double precision as z
    ) as sample
$body$;
create or replace function core.wilson_low(hits numeric, trials numeric, confidence double precision) returns numeric
language sql immutable strict parallel safe as $body$ select core.wilson_bound(hits, trials, confidence, -1) $body$;
create or replace function core.wilson_high(hits numeric, trials numeric, confidence double precision) returns numeric
language sql immutable strict parallel safe as $body$ select core.wilson_bound(hits, trials, confidence, 1) $body$;
"""


def bootstrap(settings: Settings, is_forced: bool = False) -> None:
    """Bring the warehouse of `settings` to this version's shape: databases, roles, schemas, tables. One process at a time, in one transaction.

    is_forced: do it even if the fingerprint is this version's, for a warehouse that somebody changed by hand.
    Raises NorthstarError when the warehouse cannot be reached, the administrator lacks a right, a newer version has set the warehouse up, or
    a migration fails. Then everything is as it was.
    """
    # determined once, because a new warehouse has nothing yet to read it from
    settings = replace(settings, role_prefix=db.role_prefix(settings))
    if is_forced:
        db.require_administrator(settings, "setting up the warehouse")
    if not db.has_administrator(settings):
        _require_current(settings)
        return
    database = db.database_name(settings)
    if not settings.warehouse_url:
        _create_databases(settings)
    try:
        with db.connect(settings, "owner", database=database) as connection:
            if (number := connection.info.server_version // 10000) < OLDEST_POSTGRES:
                raise NorthstarError(f"the server is Postgres {number}; Northstar needs {OLDEST_POSTGRES} or newer")
            has_airflow = marks.owns_airflow_database(connection, settings)
            fingerprint, passwords = _fingerprint(settings, has_airflow), _password_digest(settings)
            if not is_forced and _is_current(connection, settings, fingerprint, passwords):
                return
            # reading takes locks that last until the transaction ends; two processes that keep them would wait for each other for ever
            connection.commit()
            connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            if not is_forced and _is_current(connection, settings, fingerprint, passwords):
                return
            marks.require_ownership(connection, settings)
            if has_airflow:
                _give_airflow_its_role(settings)
            connection.execute("create schema if not exists audit")
            connection.execute("create table if not exists audit.bootstrapped (fingerprint text primary key)")
            connection.execute("alter table audit.bootstrapped add column if not exists passwords text")
            _create_contents(connection, settings, database)
            connection.execute("delete from audit.bootstrapped")
            connection.execute(
                "insert into audit.bootstrapped (fingerprint, passwords) values (%s, %s)", [fingerprint, passwords]
            )
        db.remember_prefix(settings, db.role_prefix(settings))
        with db.connect(settings, "publisher", autocommit=True) as connection:
            if settings.readers.roles:
                limited.ensure_policies(connection, settings)
            else:
                limited.remove_policies(connection)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise NorthstarError(
            f"the administrator role may not set up the warehouse: {exc.diag.message_primary}"
        ) from exc
    except psycopg.errors.InvalidParameterValue as exc:
        # such as a time zone that is newer than the server
        raise NorthstarError(f"the server cannot give the roles their settings: {exc.diag.message_primary}") from exc
    except psycopg.errors.LockNotAvailable as exc:
        raise NorthstarError(
            f"another session has locked what this version has to change for more than {LOCK_SECONDS} s; let the current run end, then run again"
        ) from exc
    except migrations.MigrationFailed as exc:
        with contextlib.suppress(psycopg.Error), db.connect(settings, "owner", database=database) as connection:
            exc.record(connection)
        raise


def _give_airflow_its_role(settings: Settings) -> None:
    """Give Airflow's database to a role of its own, including tables that an earlier version made as the administrator."""
    database, name = db.airflow_database(settings), db.role_name(settings, db.AIRFLOW_ROLE)
    with db.connect(settings, "owner", database=database) as connection:
        make_role(connection, settings, db.AIRFLOW_ROLE)
        marks.set_mark(connection, "database", database, marks.mark_text(settings))
        role = sql.Identifier(name)
        connection.execute(
            sql.SQL("grant connect, temporary on database {} to {}").format(sql.Identifier(database), role)
        )
        connection.execute(sql.SQL("grant usage, create on schema public to {}").format(role))
        # sequences change their owner with their tables
        objects = connection.execute(
            "select 'table' as kind, relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and relowner <> %(role)s::regrole union all select 'type', typname from pg_type "
            "where typnamespace = 'public'::regnamespace and typtype = 'e' and typowner <> %(role)s::regrole",
            {"role": name},
        ).fetchall()
        for database_object in objects:
            connection.execute(
                sql.SQL("alter {} public.{} owner to {}").format(
                    sql.SQL(database_object["kind"]), sql.Identifier(database_object["name"]), role
                )
            )


def make_airflow_database(settings: Settings) -> None:
    """Make Airflow's database on an external Postgres, before `bootstrap` gives it to its role.

    Raises NorthstarError when a database of that name exists and does not belong to this home.
    """
    name = db.airflow_database(settings)
    with db.connect(settings, "owner", autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        if marks.owns_airflow_database(connection, settings):
            return
        if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            raise NorthstarError(
                f"the database {name} of this server does not belong to this warehouse: {marks.PREFIX_ADVICE}; "
                f"if it does, mark it as its own: comment on database {name} is '{marks.mark_text(settings)}'"
            )
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        marks.set_mark(connection, "database", name, marks.mark_text(settings))


def _create_databases(settings: Settings) -> None:
    with db.connect(settings, "owner", autocommit=True, database="postgres") as connection:
        # several processes may start on a new home at once; the lock ends with the connection
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        existing_databases = {r["datname"] for r in connection.execute("select datname from pg_database").fetchall()}
        for name in {db.DATABASE, db.AIRFLOW_DATABASE} - existing_databases:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _is_current(connection: Connection, settings: Settings, fingerprint: str, passwords: str) -> bool:
    if fetch_one(connection.execute("select to_regclass('audit.bootstrapped') as t"))["t"] is None:
        return False
    row = connection.execute("select * from audit.bootstrapped").fetchone()
    is_ours = row is not None and (row["fingerprint"], row.get("passwords")) == (fingerprint, passwords)
    # a role may change its own settings at any time
    return is_ours and next(role_settings.find_changes(connection, settings), None) is None


def _require_current(settings: Settings) -> None:
    """Check without the administrator that the warehouse has this version's shape, and restore the reader's settings as the reader.

    Raises NorthstarError when the warehouse needs setting up, which only the administrator can do.
    """
    set_up = "run `northstar setup` once with its administrator in NORTHSTAR_WAREHOUSE_URL"
    try:
        connection = db.connect(settings, "transformer", autocommit=True)
    except WarehouseUnreachable as exc:
        if exc.is_login_refused:
            raise NorthstarError(f"{exc}; if nothing has set up this warehouse yet, {set_up}") from exc
        raise
    with connection:
        try:
            row = connection.execute("select fingerprint from audit.bootstrapped").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            row = None
        if row is None or row["fingerprint"] != _fingerprint(
            settings, marks.owns_airflow_database(connection, settings)
        ):
            raise NorthstarError(
                f"the warehouse in {db.database_name(settings)} is not set up for this version: {set_up}"
            )
        if not any(role == "bi_reader" for role, _, _ in role_settings.find_changes(connection, settings)):
            return
    role_settings.restore_as_reader(settings)


def _fingerprint(settings: Settings, has_airflow: bool) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in (schemas, rights, landed_tables, role_settings, explain, subscriptions, limited):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update((PACKAGE / "contract" / "entities.yml").read_bytes())
    for migration in migrations.load_migrations():
        digest.update(migration.text.encode())
    for role in db.SERVER_ROLES:
        digest.update(db.role_name(settings, role).encode())
    digest.update(repr(sorted((name, repr(role)) for name, role in settings.readers.roles.items())).encode())
    return f"{digest.hexdigest()} {'with' if has_airflow else 'without'} Airflow"


def _password_digest(settings: Settings) -> str:
    """A hash that shows the administrator that a password has changed. No role may read it: a short password could be guessed with it."""
    return hashlib.sha256(
        "\n".join(db.password(settings, r) for r in (*db.ROLES, db.AIRFLOW_ROLE, *db.limited_roles(settings))).encode()
    ).hexdigest()


def _create_contents(connection: Connection, settings: Settings, database: str) -> None:
    for role in db.ROLES:
        make_role(connection, settings, role)
    for role in (db.EXPLAINER, db.LIMITED):
        make_role(connection, settings, role, can_login=False)
    make_limited_roles(connection, settings)
    owner = fetch_one(connection.execute("select current_user as name"))["name"]
    for schema, schema_owner in SCHEMAS.items():
        role = owner if schema_owner == "northstar_owner" else db.role_name(settings, schema_owner)
        connection.execute(
            sql.SQL("create schema if not exists {} authorization {}").format(
                sql.Identifier(schema), sql.Identifier(role)
            )
        )
    if connection.info.server_version < 160000:
        connection.execute(ERFC)
    connection.execute(WILSON)
    migrations.apply(connection, replace_names=partial(db.replace_role_names, settings))
    existing_tables = landed_columns(connection)
    for entity in entities().values():
        if entity.name in existing_tables:
            follow_contract(connection, entity, existing_tables[entity.name])
        connection.execute(landed_table_ddl(entity))
        connection.execute(
            sql.SQL("alter table {} owner to {}").format(
                sql.Identifier("staging", entity.name), sql.Identifier(db.role_name(settings, "loader"))
            )
        )
    connection.execute(db.replace_role_names(settings, GRANTS))
    grant_audit_tables(connection, settings)
    limited.make_limits(connection, settings)
    explain.make_functions(connection, settings)
    subscriptions.make_functions(connection, settings)
    grant_connect(connection, settings, database)
    role_settings.restore(connection, settings)
    if marks.claim_database(connection, settings):
        restrict_databases(connection, settings, database)
        revoke_unsafe_functions(connection, settings)
        role_settings.install_login_trigger(connection, settings)
