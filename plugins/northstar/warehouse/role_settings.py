"""What the warehouse's roles have as settings of their own: time zone, limits, search path; and that it stays so.

A role may change its own defaults for good (`alter role ... set`), and `bi_reader` is one log-in for every reader: what one of them makes
last would shift the months of all. Every run compares and puts back; where the server can run something at a log-in (Postgres 17), the
reader's own defaults do not even hold until then.
"""

import shutil
from collections.abc import Iterator

from psycopg import sql

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, one

# a server's own limits, meant for its other users, would end a run in the midst of its work
UNLIMITED = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
SINCE = {"transaction_timeout": 170000}
LOGIN_TRIGGERS = 170000
TRIGGER = "northstar_reader_login"
# {role: {database or None: {setting: value}}}
OwnSettings = dict[str, dict[str | None, dict[str, str]]]
# what a reader says at its log-in or later (PGOPTIONS, set) is its own; what it made last is not looked at
SETTLE = """
create or replace function audit.settle_reader() returns event_trigger language plpgsql as $body$
declare
    wanted constant jsonb := {wanted};
    found record;
begin
    if session_user <> {reader} then
        return;
    end if;
    for found in
        select name, source, boot_val from pg_catalog.pg_settings
        where context = 'user' and (source in ('user', 'database user') or wanted ? name and source not in ('client', 'session'))
    loop
        begin
            perform pg_catalog.set_config(found.name, coalesce(wanted ->> found.name, found.boot_val, ''), false);
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


def wanted(connection: Connection, settings: Settings) -> dict[str, dict[str, str]]:
    """{role: {setting: value}} that this warehouse's roles have to have, in so far as the administrator may set it."""
    job_settings = {name: "0" for name in UNLIMITED if connection.info.server_version >= SINCE.get(name, 0)}
    reader_settings = {"timezone": "UTC", **db.READER_SETTINGS}
    # where the administrator is no superuser, it stays as the server has it
    if is_superuser(connection):
        reader_settings["temp_file_limit"] = f"{reader_megabytes(connection, settings)}MB"
    settings_by_role = {role: {"timezone": "UTC", **job_settings} for role in db.ROLES if role != "bi_reader"} | {
        "bi_reader": reader_settings
    }
    if connection.info.server_version < 160000:
        # the models find there what a newer server has of its own (northstar.warehouse.setup.ERFC)
        settings_by_role["transformer"]["search_path"] = "public, core"
    return settings_by_role


def reader_connections(connection: Connection) -> int:
    """How many sessions readers may have at once: whatever they do, the job finds a connection."""
    most: int = one(connection.execute("select current_setting('max_connections')::int as most"))["most"]
    return max(10, most // 4)


def reader_megabytes(connection: Connection, settings: Settings) -> int:
    """How much disk one session of the readers may fill with temporary files: all of them together have what operations.yml gives them."""
    total: float | None = settings.operations.reader_disk_gb
    if total is None:
        # of another machine's disk nothing is known here
        total = 100 if settings.warehouse_url else shutil.disk_usage(settings.home).total / 2**30 / 4
    return max(1, int(total * 1024 / reader_connections(connection)))


def is_superuser(connection: Connection) -> bool:
    """Whether the administrator of this connection is one."""
    return bool(one(connection.execute("select rolsuper from pg_roles where rolname = current_user"))["rolsuper"])


def changed(connection: Connection, settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    """(role, database or None, what it has instead) of every setting that is not as it has to be; a role that is missing has none."""
    settings_by_role = _own_settings(connection)
    can_set = _user_settings(connection)
    for role, settings_of_role in wanted(connection, settings).items():
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
                is_beside = role == "bi_reader" and (database is not None or setting not in settings_of_role)
                # what only a superuser can set, no reader has set
                if is_over or (is_beside and (setting in can_set or "." in setting)):
                    yield role, database, f"{setting} is {value}" + (f" in {database}" if database else "")


def restore(connection: Connection, settings: Settings) -> None:
    """Make the roles' own settings what they have to be. What an administrator gave the job's roles beside them stays."""
    settings_by_role = _own_settings(connection)
    for role, settings_of_role in wanted(connection, settings).items():
        _restore_role(connection, settings, role, settings_of_role, settings_by_role)
    connection.execute(
        sql.SQL("alter role {} connection limit {}").format(
            sql.Identifier(db.role_name(settings, "bi_reader")), sql.Literal(reader_connections(connection))
        )
    )


def restore_as_reader(settings: Settings) -> None:
    """Let the reader put its own settings back, as it may change them: a run that has no administrator has its password at least."""
    with db.connect(settings, "bi_reader", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        reader_settings = wanted(connection, settings)["bi_reader"]
        _restore_role(connection, settings, "bi_reader", reader_settings, _own_settings(connection))


def _restore_role(
    connection: Connection, settings: Settings, role: str, settings_of_role: dict[str, str], known: OwnSettings
) -> None:
    name = db.role_name(settings, role)
    of_role = sql.SQL("alter role {}").format(sql.Identifier(name))
    for database, database_settings in known.get(name, {}).items():
        statement = of_role + (sql.SQL(" in database {}").format(sql.Identifier(database)) if database else sql.SQL(""))
        if role == "bi_reader":
            connection.execute(statement + sql.SQL(" reset all"))
        elif database is not None:
            for setting in database_settings.keys() & settings_of_role.keys():
                connection.execute(statement + sql.SQL(f" reset {setting}"))
    for setting, value in settings_of_role.items():
        # a search path is several values
        values = sql.SQL(", ").join(sql.Literal(v) for v in value.split(", "))
        connection.execute(of_role + sql.SQL(f" set {setting} = {{}}").format(values))


def settle_at_login(connection: Connection, settings: Settings) -> None:
    """Have the reader's settings put right at its log-in, by a server that can and a superuser, who alone may say so."""
    if connection.info.server_version < LOGIN_TRIGGERS or not is_superuser(connection):
        return
    values = {k: v for k, v in wanted(connection, settings)["bi_reader"].items() if k != "temp_file_limit"}
    pairs = sql.SQL(", ").join(sql.Literal(x) for pair in ({**values, "TimeZone": "UTC"}).items() for x in pair)
    connection.execute(
        sql.SQL(SETTLE).format(
            wanted=sql.SQL("pg_catalog.jsonb_build_object({})").format(pairs),
            reader=sql.Literal(db.role_name(settings, "bi_reader")),
        )
    )
    if not connection.execute("select 1 from pg_event_trigger where evtname = %s", [TRIGGER]).fetchone():
        connection.execute(f"create event trigger {TRIGGER} on login execute function audit.settle_reader()")
    connection.execute(f"alter event trigger {TRIGGER} enable always")


def _own_settings(connection: Connection) -> OwnSettings:
    """{role: {database or None: {setting: value}}} as the server has them; names in small letters."""
    rows = connection.execute(
        "select r.rolname as role, d.datname as database, s.setconfig as said from pg_roles as r left join pg_db_role_setting as s "
        "on s.setrole = r.oid left join pg_database as d on d.oid = s.setdatabase"
    ).fetchall()
    settings_by_role: OwnSettings = {}
    for row in rows:
        of_role = settings_by_role.setdefault(row["role"], {})
        if row["said"]:
            entries = (entry.partition("=") for entry in row["said"])
            of_role[row["database"]] = {name.lower(): value for name, _, value in entries}
    return settings_by_role


def _user_settings(connection: Connection) -> set[str]:
    return {r["name"] for r in connection.execute("select lower(name) as name from pg_settings where context = 'user'")}
