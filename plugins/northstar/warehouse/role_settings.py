"""The settings of the warehouse's roles (time zone, limits, search path, ...), and how they are kept.

A role may change its own defaults permanently (`alter role ... set`), and `bi_reader` is one log-in for every reader: if one of them changed
the time zone, the months of all would shift. So every run compares the settings and restores them. Where the server can run a trigger at a
log-in (Postgres 17), changed defaults of the reader have no effect even before the next run.
"""

import json
import shutil
from collections.abc import Iterator

from psycopg import sql

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one

# limits that are switched off for the job's roles: a server's own limits are meant for its other users, and would end a run in its work
UNLIMITED = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
FIRST_SERVER_VERSIONS = {"transaction_timeout": 170000}
LOGIN_TRIGGERS = 170000
TRIGGER = "northstar_reader_login"
# {role: {database or None: {setting: value}}}
StoredSettings = dict[str, dict[str | None, dict[str, str]]]
# a trigger that restores the reader's settings at a log-in. What a reader sets for one session (PGOPTIONS, set) is left alone; defaults that
# it stored are overridden
LOGIN_FUNCTION = """
create or replace function audit.settle_reader() returns event_trigger language plpgsql as $body$
declare
    required constant jsonb := {required} -> session_user::text;
    found record;
begin
    if required is null then
        return;
    end if;
    for found in
        select name, source, boot_val from pg_catalog.pg_settings
        where context = 'user' and (source in ('user', 'database user') or required ? name and source not in ('client', 'session'))
    loop
        begin
            perform pg_catalog.set_config(found.name, coalesce(required ->> found.name, found.boot_val, ''), false);
        exception when others then
            null;
        end;
    end loop;
exception when others then
    -- nobody is kept out by what is wrong in here
    null;
end
$body$
"""


def required_settings(connection: Connection, settings: Settings) -> dict[str, dict[str, str]]:
    """{role: {setting: value}} that this warehouse's roles should have, as far as the administrator may set it."""
    job_settings = {
        name: "0" for name in UNLIMITED if connection.info.server_version >= FIRST_SERVER_VERSIONS.get(name, 0)
    }
    reader_settings = db.session_options(settings, "bi_reader")
    # only a superuser may set it
    if is_superuser(connection):
        reader_settings["temp_file_limit"] = f"{reader_temp_megabytes(connection, settings)}MB"
    settings_by_role = {role: {**db.OPTIONS, **job_settings} for role in db.ROLES if role != "bi_reader"} | {
        role: reader_settings | {"search_path": db.session_options(settings, role)["search_path"]}
        for role in db.reader_roles(settings)
    }
    if connection.info.server_version < 160000:
        # in core the models find a function that newer servers have built in (northstar.warehouse.setup.ERFC)
        settings_by_role["transformer"]["search_path"] = "public, core"
    return settings_by_role


def max_reader_connections(connection: Connection) -> int:
    """How many sessions `bi_reader` may have at once, and all roles of readers.yml together, so that the job always gets a connection."""
    most: int = fetch_one(connection.execute("select current_setting('max_connections')::int as most"))["most"]
    return max(10, most // 4)


def reader_temp_megabytes(connection: Connection, settings: Settings) -> int:
    """How many MB of temporary files one session of the readers may have: its share of what operations.yml gives all of them."""
    total: float | None = settings.operations.reader_disk_gb
    if total is None:
        # the size of an external server's disk is not known here
        total = 100 if settings.warehouse_url else shutil.disk_usage(settings.home).total / 2**30 / 4
    return max(1, int(total * 1024 / max_reader_connections(connection)))


def is_superuser(connection: Connection) -> bool:
    """Whether this connection's role is a superuser."""
    return bool(fetch_one(connection.execute("select rolsuper from pg_roles where rolname = current_user"))["rolsuper"])


def find_changes(connection: Connection, settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    """(role, database or None, the difference in words) of every setting that is not as it should be. Missing roles are left out."""
    settings_by_role = _stored_settings(connection)
    can_set = _settings_open_to_users(connection)
    for role, settings_of_role in required_settings(connection, settings).items():
        name = db.role_name(settings, role)
        own_settings = settings_by_role.get(name)
        if own_settings is None:
            continue
        for setting, value in settings_of_role.items():
            if own_settings.get(None, {}).get(setting) != value:
                yield (
                    role,
                    None,
                    f"{setting} is {own_settings.get(None, {}).get(setting, 'not set')} instead of {value}",
                )
        for database, database_settings in own_settings.items():
            for setting, value in database_settings.items():
                is_over = database is not None and setting in settings_of_role
                is_beside = role in db.reader_roles(settings) and (
                    database is not None or setting not in settings_of_role
                )
                # a setting that only a superuser can change was not changed by a reader
                if is_over or (is_beside and (setting in can_set or "." in setting)):
                    yield role, database, f"{setting} is {value}" + (f" in {database}" if database else "")


def restore(connection: Connection, settings: Settings) -> None:
    """Give the roles the settings that they should have. Further settings that an administrator gave the job's roles stay."""
    settings_by_role = _stored_settings(connection)
    for role, settings_of_role in required_settings(connection, settings).items():
        _restore_role(connection, settings, role, settings_of_role, settings_by_role)
    most = max_reader_connections(connection)
    limited = db.limited_roles(settings)
    for role, limit in {"bi_reader": most, **dict.fromkeys(limited, max(4, most // max(1, len(limited))))}.items():
        connection.execute(
            sql.SQL("alter role {} connection limit {}").format(
                sql.Identifier(db.role_name(settings, role)), sql.Literal(limit)
            )
        )


def restore_as_reader(settings: Settings) -> None:
    """Restore the reader's settings as the reader itself, who may change them: a run without the administrator has at least its password."""
    for role in db.reader_roles(settings):
        with db.connect(settings, role, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = off")
            own_settings = required_settings(connection, settings)[role]
            _restore_role(connection, settings, role, own_settings, _stored_settings(connection))


def _restore_role(
    connection: Connection, settings: Settings, role: str, required: dict[str, str], stored: StoredSettings
) -> None:
    name = db.role_name(settings, role)
    of_role = sql.SQL("alter role {}").format(sql.Identifier(name))
    for database, database_settings in stored.get(name, {}).items():
        statement = of_role + (sql.SQL(" in database {}").format(sql.Identifier(database)) if database else sql.SQL(""))
        if role in db.reader_roles(settings):
            connection.execute(statement + sql.SQL(" reset all"))
        elif database is not None:
            for setting in database_settings.keys() & required.keys():
                connection.execute(statement + sql.SQL(f" reset {setting}"))
    for setting, value in required.items():
        # a search path is several values
        values = sql.SQL(", ").join(sql.Literal(v) for v in value.split(", "))
        connection.execute(of_role + sql.SQL(f" set {setting} = {{}}").format(values))


def install_login_trigger(connection: Connection, settings: Settings) -> None:
    """Make the trigger that restores the reader's settings at a log-in, if the server can do it and we are superuser, as it requires."""
    if connection.info.server_version < LOGIN_TRIGGERS or not is_superuser(connection):
        return
    by_role = required_settings(connection, settings)
    required = {
        db.role_name(settings, role): {
            **{name: value for name, value in by_role[role].items() if name != "temp_file_limit"},
            "TimeZone": by_role[role]["timezone"],
        }
        for role in db.reader_roles(settings)
    }
    connection.execute(
        sql.SQL(LOGIN_FUNCTION).format(required=sql.Literal(json.dumps(required)) + sql.SQL("::pg_catalog.jsonb"))
    )
    if not connection.execute("select 1 from pg_event_trigger where evtname = %s", [TRIGGER]).fetchone():
        connection.execute(f"create event trigger {TRIGGER} on login execute function audit.settle_reader()")
    connection.execute(f"alter event trigger {TRIGGER} enable always")


def _stored_settings(connection: Connection) -> StoredSettings:
    """{role: {database or None: {setting: value}}} as the server has them; names of settings are in lower case."""
    rows = connection.execute(
        "select r.rolname as role, d.datname as database, s.setconfig as said from pg_roles as r left join pg_db_role_setting as s "
        "on s.setrole = r.oid left join pg_database as d on d.oid = s.setdatabase"
    ).fetchall()
    settings_by_role: StoredSettings = {}
    for row in rows:
        of_role = settings_by_role.setdefault(row["role"], {})
        if row["said"]:
            entries = (entry.partition("=") for entry in row["said"])
            of_role[row["database"]] = {name.lower(): value for name, _, value in entries}
    return settings_by_role


def _settings_open_to_users(connection: Connection) -> set[str]:
    return {r["name"] for r in connection.execute("select lower(name) as name from pg_settings where context = 'user'")}
