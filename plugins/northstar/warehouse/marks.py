"""Marks: comments on the roles and databases that Northstar made on a server, which name their warehouse.

A server may have other users, who may use any names for their roles and databases. A role or database without the mark is never changed.
Those that a version from before the marks made are recognised once, by what only that version can have left, and are then marked.
"""

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one
from northstar.warehouse.schemas import SCHEMAS

MARK = "Northstar made this for its warehouse in the database {}"
PREFIX_ADVICE = "set NORTHSTAR_ROLE_PREFIX to a prefix that nobody else's names have, such as northstar_"
# {role: a schema that it owned before there were marks}
OWNED_SCHEMAS = {"loader": "staging", "transformer": "core", "publisher": "marts"}


def mark_text(settings: Settings) -> str:
    """The comment on what belongs to the warehouse of `settings`."""
    return MARK.format(db.database_name(settings))


def set_mark(connection: Connection, kind: str, name: str, text: str) -> None:
    """Mark a role or a database (`kind`) as made by Northstar."""
    connection.execute(sql.SQL(f"comment on {kind} {{}} is {{}}").format(sql.Identifier(name), sql.Literal(text)))


def require_ownership(connection: Connection, settings: Settings) -> None:
    """Raise NorthstarError when the warehouse was made with another prefix, or a schema or role is somebody else's. It changes nothing."""
    if not settings.warehouse_url:
        # an embedded server belongs to the home as a whole
        return
    warehouse_prefix, home_prefix = db.read_prefix(connection), db.role_prefix(settings)
    if warehouse_prefix is not None and warehouse_prefix != home_prefix:
        raise NorthstarError(
            f"the roles of the warehouse in {db.database_name(settings)} were created with the prefix {warehouse_prefix or '(none)'}: "
            f"set NORTHSTAR_ROLE_PREFIX={warehouse_prefix} (it is {home_prefix or 'empty'} now)"
        )
    if warehouse_prefix is None:
        _require_no_schemas(connection, settings)
    for role in (*db.SERVER_ROLES, *db.limited_roles(settings)):
        role_row = connection.execute(
            "select shobj_description(oid, 'pg_authid') as mark from pg_roles where rolname = %s",
            [db.role_name(settings, role)],
        ).fetchone()
        if role_row and not _is_own_role(connection, settings, role, role_row["mark"]):
            whose = f"; its comment says: {role_row['mark']}" if role_row["mark"] else ""
            raise NorthstarError(
                f"the role {db.role_name(settings, role)} of this server does not belong to this warehouse{whose}: {PREFIX_ADVICE}"
            )


def owns_airflow_database(connection: Connection, settings: Settings) -> bool:
    """Whether Airflow's database exists and belongs to the home."""
    database_row = connection.execute(
        "select shobj_description(oid, 'pg_database') as mark from pg_database where datname = %s",
        [db.airflow_database(settings)],
    ).fetchone()
    if database_row is None:
        return False
    if not settings.warehouse_url or database_row["mark"] == mark_text(settings):
        return True
    return database_row["mark"] is None and not db.role_prefix(settings) and _had_airflow(connection, settings)


def claim_database(connection: Connection, settings: Settings) -> bool:
    """Mark the warehouse's database as the home's alone, if nobody else has anything in it; returns whether it is marked."""
    database = db.database_name(settings)
    database_row = fetch_one(connection.execute(
        "select shobj_description(oid, 'pg_database') as mark, pg_has_role(datdba, 'member') as may from pg_database where datname = %s",
        [database],
    ))  # fmt: skip
    if database_row["mark"] == mark_text(settings):
        return True
    if settings.warehouse_url and (
        database_row["mark"] is not None or not database_row["may"] or _has_other_users(connection)
    ):
        return False
    set_mark(connection, "database", database, mark_text(settings))
    return True


def _has_other_users(connection: Connection) -> bool:
    row = fetch_one(connection.execute(
        "select exists (select 1 from pg_namespace where nspname !~ '^pg_' and nspname <> all(%(ours)s)) or exists (select 1 from pg_class "
        "where relnamespace = 'public'::regnamespace) or exists (select 1 from pg_proc where pronamespace = 'public'::regnamespace) as found",
        {"ours": [*SCHEMAS, "public", "information_schema"]},
    ))  # fmt: skip
    return bool(row["found"])


def _had_airflow(connection: Connection, settings: Settings) -> bool:
    """Whether a version from before the marks gave the database `airflow` to its role, and this home's Airflow then filled it."""
    if fetch_one(connection.execute("select to_regclass('audit.bootstrapped') as t"))["t"] is None:
        return False
    row = connection.execute("select fingerprint like '% with Airflow' as had from audit.bootstrapped").fetchone()
    return bool(row and row["had"]) and (settings.home / "airflow" / "migrated").exists()


def _require_no_schemas(connection: Connection, settings: Settings) -> None:
    foreign_schema = connection.execute(
        "select nspname as name from pg_namespace where nspname = any(%s) order by 1", [list(SCHEMAS)]
    ).fetchone()
    if foreign_schema:
        raise NorthstarError(
            f"the database {db.database_name(settings)} has a schema {foreign_schema['name']} that is not Northstar's: "
            "create a database for the warehouse and name it in NORTHSTAR_WAREHOUSE_URL"
        )


def _is_own_role(connection: Connection, settings: Settings, role: str, comment: str | None) -> bool:
    if comment is not None:
        return comment == mark_text(settings)
    name = db.role_name(settings, role)
    if role == db.AIRFLOW_ROLE:
        return owns_airflow_database(connection, settings) and _is_granted(
            connection, "select datacl as acl from pg_database where datname = %s", db.airflow_database(settings), name
        )
    if db.read_prefix(connection) is None:
        return False
    if role in OWNED_SCHEMAS:
        owner = connection.execute(
            "select pg_get_userbyid(nspowner) as name from pg_namespace where nspname = %s", [OWNED_SCHEMAS[role]]
        ).fetchone()
        return owner is not None and owner["name"] == name
    return _is_granted(connection, "select nspacl as acl from pg_namespace where nspname = %s", "marts", name)


def _is_granted(connection: Connection, query: str, place: str, role: str) -> bool:
    """Whether an access list grants something to a role. query: gives the list of `place`."""
    row = fetch_one(connection.execute(
        f"select exists (select 1 from ({query}) as x, aclexplode(x.acl) as a where pg_get_userbyid(a.grantee) = %s) as found",
        [place, role],
    ))  # fmt: skip
    return bool(row["found"])
