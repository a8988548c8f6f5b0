"""The warehouse's fixed parts: databases, roles, schemas, landed tables, the audit's own tables.

Roles, schemas, landed tables and grants are compared with what they should be and brought there; the audit's own tables change by
numbered migrations (northstar.warehouse.migrations). A fingerprint of all that makes a repeated call cost one query.
What dbt builds (core, marts_candidate, the staging views) and what publishing makes (marts, marts_history) is not here.
"""

import contextlib
import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.settings import PACKAGE, Settings
from northstar.contract import Column, Entity, entities
from northstar.warehouse import db, marks, migrations, role_settings

LOCK = 0x6E735F6D69677261  # "ns_migra"
LOCK_SECONDS = 120
OLDEST_POSTGRES = 15

SCHEMAS = {
    "staging": "loader",
    "quarantine": "loader",
    "core": "transformer",
    "marts_candidate": "transformer",
    "marts": "publisher",
    "marts_history": "publisher",
    "marts_at_version": "publisher",
    "audit": "northstar_owner",
}

# how Postgres calls the contract's types that have a short name
FULL_NAMES = {"timestamptz": "timestamp with time zone"}

# what a model gathers by the key of another entity
LOOKED_UP = {
    "charges": ("payment_id",),
    "messages": ("booking_id",),
    "reviews": ("booking_id",),
    "refunds": ("charge_id",),
    "ticket_events": ("ticket_id",),
}

# who may write an audit table, all three if it is not named here: nobody's evidence is in another's hands
WRITERS = {
    "runs": ("transformer", "publisher"),
    "writer_lease": ("transformer",),
    "model_runs": ("transformer",),
    "definitions": ("transformer",),
    "manifests": ("transformer",),
    "holds": ("publisher",),
    "checks": ("transformer",),
    "reconciliations": ("loader", "transformer"),
    "landing_batches": ("loader",),
    "landed_files": ("loader",),
    "schema_drift": ("loader",),
    "source_states": ("loader",),
    "source_runs": ("loader",),
    "notices": ("publisher",),
    "alert_evaluations": ("publisher",),
    "reports": ("publisher",),
    "outbox": ("publisher",),
    "backfills": ("transformer",),
    "maintenance": ("transformer",),
    "erasures": ("loader",),
    "erasure_ids": ("loader",),
    "tombstones": ("loader",),
    "details_forgotten": ("loader",),
    "pii_keys": ("loader",),
    "bootstrapped": (),
    "migrations": (),
}
# what the upkeep, which is transformer, may forget of others' journals (northstar.runs.maintenance)
FORGOTTEN = ("source_runs", "alert_evaluations", "notices", "outbox")
# what Postgres lets everybody do: hold a lock that the publisher waits for, fill the disk past all tables, end the sessions of one's own role
UNSAFE_FUNCTIONS = r"^(pg_(try_)?advisory_(xact_)?lock(_shared)?|lo_creat|lo_create|lo_from_bytea|pg_logical_emit_message|pg_(terminate|cancel)_backend)$"
# Postgres has it since 16. The series is that of Abramowitz and Stegun 7.1.6, beyond 2.5 the continued fraction 7.1.14
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

GRANTS = """
grant usage on schema staging, quarantine to loader, transformer;
grant usage on schema audit to loader, transformer, publisher;
grant create on schema staging to transformer;
grant select on all tables in schema staging to transformer;
grant select on all tables in schema quarantine to transformer;
grant usage on schema core, marts_candidate to publisher;
grant usage on schema marts, marts_history, marts_at_version to bi_reader, transformer;
grant usage on sequence audit.run_ids to transformer;
alter default privileges for role loader in schema staging grant select on tables to transformer;
alter default privileges for role transformer in schema core grant select on tables to publisher;
alter default privileges for role transformer in schema marts_candidate grant select on tables to publisher;
alter default privileges for role publisher in schema marts grant select on tables to bi_reader, transformer;
alter default privileges for role publisher in schema marts_at_version grant select on tables to bi_reader, transformer;
alter default privileges for role publisher in schema marts_history grant select on tables to transformer;
grant select on core.run_context to publisher;
revoke all on all tables in schema quarantine from publisher;
revoke usage on schema staging, quarantine from publisher;
revoke all on all tables in schema audit from loader, transformer, publisher;
revoke all on all sequences in schema audit from loader, publisher;
"""


def bootstrap(settings: Settings, is_forced: bool = False) -> None:
    """Bring the warehouse of `settings` to this version's shape: databases, roles, schemas, tables; in one transaction, one at a time.

    is_forced: also when nothing of this version has changed since, as after somebody's hand in it.
    Raises NorthstarError when the warehouse cannot be reached, the administrator may not make what is needed, a newer version
    has been at work on it, or a migration fails: then everything is as it was.
    """
    # asked once: a new warehouse has nothing yet that says it
    settings = replace(settings, role_prefix=db.prefix_of(settings))
    if is_forced:
        db.require_administrator(settings, "setting up the warehouse")
    if not db.has_administrator(settings):
        _require_current(settings)
        return
    database = db.database_of(settings)
    if not settings.warehouse_url:
        _create_databases(settings)
    try:
        with db.connect(settings, "owner", database=database) as connection:
            if (number := connection.info.server_version // 10000) < OLDEST_POSTGRES:
                raise NorthstarError(f"the server is Postgres {number}; Northstar needs {OLDEST_POSTGRES} or newer")
            has_airflow = marks.is_own_airflow(connection, settings)
            fingerprint, passwords = _fingerprint(settings, has_airflow), _password_digest(settings)
            if not is_forced and _is_current(connection, settings, fingerprint, passwords):
                return
            # what was read is locked until the transaction ends: two who wait for each other's look would wait for ever
            connection.commit()
            connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            if not is_forced and _is_current(connection, settings, fingerprint, passwords):
                return
            marks.require_own(connection, settings)
            if has_airflow:
                _hand_over_airflow(settings)
            connection.execute("create schema if not exists audit")
            connection.execute("create table if not exists audit.bootstrapped (fingerprint text primary key)")
            connection.execute("alter table audit.bootstrapped add column if not exists passwords text")
            _create(connection, settings, database)
            connection.execute("delete from audit.bootstrapped")
            connection.execute(
                "insert into audit.bootstrapped (fingerprint, passwords) values (%s, %s)", [fingerprint, passwords]
            )
        db.remember_prefix(settings, db.prefix_of(settings))
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


def _hand_over_airflow(settings: Settings) -> None:
    """Airflow's database belongs to a role of its own, also one that an earlier version filled as the administrator."""
    database, name = db.airflow_database(settings), db.role_name(settings, db.AIRFLOW_ROLE)
    with db.connect(settings, "owner", database=database) as connection:
        _make_role(connection, settings, db.AIRFLOW_ROLE)
        marks.mark(connection, "database", database, marks.mark_of(settings))
        role = sql.Identifier(name)
        connection.execute(
            sql.SQL("grant connect, temporary on database {} to {}").format(sql.Identifier(database), role)
        )
        connection.execute(sql.SQL("grant usage, create on schema public to {}").format(role))
        # sequences go with their tables
        theirs = connection.execute(
            "select 'table' as kind, relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and relowner <> %(role)s::regrole union all select 'type', typname from pg_type "
            "where typnamespace = 'public'::regnamespace and typtype = 'e' and typowner <> %(role)s::regrole",
            {"role": name},
        ).fetchall()
        for thing in theirs:
            connection.execute(
                sql.SQL("alter {} public.{} owner to {}").format(
                    sql.SQL(thing["kind"]), sql.Identifier(thing["name"]), role
                )
            )


def make_airflow_database(settings: Settings) -> None:
    """Make Airflow's database on an external Postgres, before `bootstrap` hands it over.

    Raises NorthstarError when a database of that name is there and is not this home's.
    """
    name = db.airflow_database(settings)
    with db.connect(settings, "owner", autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        if marks.is_own_airflow(connection, settings):
            return
        if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            raise NorthstarError(
                f"the database {name} of this server is not this warehouse's: {marks.OTHER_PREFIX}; "
                f"or, if it is, say so: comment on database {name} is '{marks.mark_of(settings)}'"
            )
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        marks.mark(connection, "database", name, marks.mark_of(settings))


def _create_databases(settings: Settings) -> None:
    with db.connect(settings, "owner", autocommit=True, database="postgres") as connection:
        # several may start on a new home at once; it is given back with the connection
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        known = {r["datname"] for r in connection.execute("select datname from pg_database").fetchall()}
        for name in {db.DATABASE, db.AIRFLOW_DATABASE} - known:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _is_current(connection, settings: Settings, fingerprint: str, passwords: str) -> bool:
    if connection.execute("select to_regclass('audit.bootstrapped') as t").fetchone()["t"] is None:
        return False
    row = connection.execute("select * from audit.bootstrapped").fetchone()
    is_ours = row is not None and (row["fingerprint"], row.get("passwords")) == (fingerprint, passwords)
    # a role may change its own settings at any time
    return is_ours and next(role_settings.changed(connection, settings), None) is None


def _require_current(settings: Settings) -> None:
    """See without the administrator that the warehouse has this version's shape, and have the reader put its own settings back.

    Raises NorthstarError where only the administrator can bring it there.
    """
    set_up = "run `northstar setup` once with its administrator in NORTHSTAR_WAREHOUSE_URL"
    try:
        connection = db.connect(settings, "transformer", autocommit=True)
    except NorthstarError as exc:
        if "authentication failed" in str(exc):
            raise NorthstarError(f"{exc}; if nothing has set up this warehouse yet, {set_up}") from exc
        raise
    with connection:
        try:
            row = connection.execute("select fingerprint from audit.bootstrapped").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            row = None
        if row is None or row["fingerprint"] != _fingerprint(settings, marks.is_own_airflow(connection, settings)):
            raise NorthstarError(
                f"the warehouse in {db.database_of(settings)} is not set up for this version: {set_up}"
            )
        if not any(role == "bi_reader" for role, _, _ in role_settings.changed(connection, settings)):
            return
    role_settings.restore_as_reader(settings)


def _fingerprint(settings: Settings, has_airflow: bool) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes() + Path(role_settings.__file__).read_bytes())
    digest.update((PACKAGE / "contract" / "entities.yml").read_bytes())
    for migration in migrations.migrations():
        digest.update(migration.text.encode())
    for role in (*db.ROLES, db.AIRFLOW_ROLE):
        digest.update(db.role_name(settings, role).encode())
    return f"{digest.hexdigest()} {'with' if has_airflow else 'without'} Airflow"


def _password_digest(settings: Settings) -> str:
    """A hash by which the administrator sees that a password has changed; no role may read it, as a short password could be guessed by it."""
    return hashlib.sha256(
        "\n".join(db.password(settings, r) for r in (*db.ROLES, db.AIRFLOW_ROLE)).encode()
    ).hexdigest()


def _create(connection, settings: Settings, database: str) -> None:
    for role in db.ROLES:
        _make_role(connection, settings, role)
    owner = connection.execute("select current_user as name").fetchone()["name"]
    for schema, schema_owner in SCHEMAS.items():
        role = owner if schema_owner == "northstar_owner" else db.role_name(settings, schema_owner)
        connection.execute(
            sql.SQL("create schema if not exists {} authorization {}").format(
                sql.Identifier(schema), sql.Identifier(role)
            )
        )
    if connection.info.server_version < 160000:
        connection.execute(ERFC)
    migrations.apply(connection, naming=partial(db.with_role_names, settings))
    standing = landed_columns(connection)
    for entity in entities().values():
        if entity.name in standing:
            _follow_contract(connection, entity, standing[entity.name])
        connection.execute(landed_table(entity))
        connection.execute(
            sql.SQL("alter table {} owner to {}").format(
                sql.Identifier("staging", entity.name), sql.Identifier(db.role_name(settings, "loader"))
            )
        )
    connection.execute(db.with_role_names(settings, GRANTS))
    _grant_audit(connection, settings)
    _let_in(connection, settings, database)
    role_settings.restore(connection, settings)
    if marks.claim_database(connection, settings):
        _close_databases(connection, settings, database)
        _revoke_unsafe_functions(connection, settings)
        role_settings.settle_at_login(connection, settings)


def _make_role(connection, settings: Settings, role: str) -> None:
    name = db.role_name(settings, role)
    exists = connection.execute(
        "select array_remove(array[case when rolsuper then 'nosuperuser' end, case when rolcreatedb then 'nocreatedb' end, "
        "case when rolcreaterole then 'nocreaterole' end], null) as too_much from pg_roles where rolname = %s",
        [name],
    ).fetchone()
    # hashed here: a server that logs its DDL, or a statement that fails, must not write the password down
    hashed = connection.pgconn.encrypt_password(db.password(settings, role).encode(), name.encode(), b"scram-sha-256")
    # what a role has not needs no taking away, which an administrator who has not got it either may not say
    verb, attributes = ("alter", " ".join(exists["too_much"])) if exists else ("create", "")
    connection.execute(
        sql.SQL(f"{verb} role {{}} login {attributes} password {{}}").format(
            sql.Identifier(name), sql.Literal(hashed.decode())
        )
    )
    if not role_settings.is_superuser(connection):
        _become_member(connection, name)
    marks.mark(connection, "role", name, marks.mark_of(settings))


def _become_member(connection, name: str) -> None:
    """Let an administrator who is no superuser give things to a role that it made, and act as that role."""
    has_options = connection.info.server_version >= 160000
    needed = ("SET", "USAGE") if has_options else ("MEMBER",)
    row = connection.execute(
        "select bool_and(pg_has_role(current_user, %s::name, kind)) as is_member from unnest(%s::text[]) as kind",
        [name, list(needed)],
    ).fetchone()
    if not row["is_member"]:
        # since 16 who makes a role may grant it, and is not otherwise in it
        options = " with inherit true, set true" if has_options else ""
        connection.execute(sql.SQL("grant {} to current_user" + options).format(sql.Identifier(name)))


def act_as_owner(connection, schema: str) -> None:
    """Act as the owner of a schema's tables, until the transaction ends or the administrator's `reset role`."""
    connection.execute("reset role")
    owner = connection.execute(
        "select pg_get_userbyid(nspowner) as name from pg_namespace where nspname = %s and pg_get_userbyid(nspowner) <> session_user",
        [schema],
    ).fetchone()
    if owner:
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(owner["name"])))


def _grant_audit(connection, settings: Settings) -> None:
    def allow(what: str, table: sql.Identifier, *roles: str) -> None:
        for role in roles:
            name = sql.Identifier(db.role_name(settings, role))
            connection.execute(sql.SQL(f"grant {what} on {{}} to {{}}").format(table, name))

    for row in connection.execute("select tablename as name from pg_tables where schemaname = 'audit'").fetchall():
        table = sql.Identifier("audit", row["name"])
        if row["name"] == "bootstrapped":
            allow("select (fingerprint)", table, "transformer")
        else:
            allow("select", table, "loader", "transformer", "publisher")
        allow("insert, update, delete", table, *WRITERS.get(row["name"], ("loader", "transformer", "publisher")))
        if row["name"] in FORGOTTEN:
            allow("delete", table, "transformer")


def _let_in(connection, settings: Settings, database: str) -> None:
    for role in db.ROLES:
        rights = "connect" if role == "bi_reader" else "connect, temporary"
        connection.execute(
            sql.SQL(f"grant {rights} on database {{}} to {{}}").format(
                sql.Identifier(database), sql.Identifier(db.role_name(settings, role))
            )
        )


def _close_databases(connection, settings: Settings, database: str) -> None:
    """The roles reach the warehouse and no other database of this server, in so far as it is ours to say."""
    connection.execute(sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(database)))
    connection.execute("revoke create on schema public from public")
    ours = [] if settings.warehouse_url else ["postgres", "template1"]
    if marks.is_own_airflow(connection, settings):
        ours.append(db.airflow_database(settings))
    others = connection.execute(
        "select datname as name from pg_database where datname = any(%s) and datname <> %s "
        "and pg_has_role(datdba, 'member')",
        [ours, database],
    ).fetchall()
    for other in others:
        connection.execute(
            sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(other["name"]))
        )


def _revoke_unsafe_functions(connection, settings: Settings) -> None:
    """What only a superuser may take from everybody; where the administrator is none (managed services), it stays as it is."""
    if not role_settings.is_superuser(connection):
        return
    found = connection.execute(
        "select oid::regprocedure::text as name, proname like '%%advisory%%' as is_lock from pg_proc "
        "where pronamespace = 'pg_catalog'::regnamespace and proname ~ %s",
        [UNSAFE_FUNCTIONS],
    ).fetchall()
    for function in found:
        connection.execute(f"revoke execute on function {function['name']} from public")
        if function["is_lock"]:
            connection.execute(
                f"grant execute on function {function['name']} to "
                + db.with_role_names(settings, "loader, transformer, publisher")
            )


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
