"""Connections to the warehouse, and the names of its roles and databases. This is the only place that knows them."""

import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import SplitResult, parse_qs, quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.abc import Params, Query
from psycopg.rows import TupleRow, dict_row

from northstar.base.errors import (
    NorthstarError,
    OutOfDisk,
    OutOfMemory,
    PassingError,
    WarehouseLost,
    WarehouseUnreachable,
)
from northstar.base.files import read_json, write_private
from northstar.base.settings import Settings
from northstar.base.third_parties import (
    are_options_refused,
    is_database_missing,
    is_login_refused,
    is_starting_up,
    resource_error,
)
from northstar.warehouse import embedded
from northstar.warehouse.reuse import Reusable, take_idle
from northstar.warehouse.rows import Connection, Row, fetch_one

ROLES = ("loader", "transformer", "publisher", "bi_reader")
DATABASE = "northstar"
# Airflow's own database, and the only role besides the administrator that may connect to it
AIRFLOW_DATABASE, AIRFLOW_ROLE = "airflow", "airflow_db"
# the owner of the functions that show readers the rows behind a number (northstar.warehouse.explain); nobody logs in as it
EXPLAINER = "explainer"
# the group of the roles that see a part of the marts only (northstar.warehouse.published.limited); nobody logs in as it. Each of them is called
# `reader_` and its name in readers.yml, and logs in as itself: whoever may give it statements cannot become another
LIMITED = "limited_reader"
READER = "reader_"
# all roles that every home has on its server
SERVER_ROLES = (*ROLES, AIRFLOW_ROLE, EXPLAINER, LIMITED)
ROLE_WORDS = re.compile(rf"\b({'|'.join(SERVER_ROLES)})\b")
# the prefix may be this long: Postgres allows 63 bytes for a role's whole name
PREFIX_LENGTH = 40
Result = TypeVar("Result")
# the first schema of a limited reader's search path: publications and certificates without what is counted over everything
LIMITED_SCHEMA = "limited"
# {address: whether it leads to a pooler}
POOLED: dict[str, bool] = {}
RECOVERY_SECONDS = 60
# how much of a table is held in memory at once
LOT_ROWS, LOT_BYTES = 5_000, 8 << 20
# jit: the statements of a build are many, long and quick; compiling them takes a server that does so longer than executing them (D210)
OPTIONS = {"timezone": "UTC", "jit": "off"}
READER_SETTINGS = {
    "search_path": "marts",
    "default_transaction_read_only": "on",
    # a forgotten query or transaction must not block the publisher's changes to a mart, or vacuum
    "statement_timeout": "10min",
    "idle_in_transaction_session_timeout": "10min",
}
# further options of a role's connections. bi_reader: the settings that its role should have, because whoever has its password may change
# those of the role. owner: no time limits, because the server's limits are meant for its other users
OPTIONS_BY_ROLE = {
    "bi_reader": OPTIONS | READER_SETTINGS,
    LIMITED: OPTIONS | READER_SETTINGS | {"search_path": f"{LIMITED_SCHEMA}, marts"},
    "owner": OPTIONS | {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"},
}
# the values of sslmode that an address over a network may have. `allow` and `prefer` (libpq's default) fall back to clear text silently
SSL_MODES = ("verify-full", "verify-ca", "require", "disable")
# whose sessions count days: all but those that land rows and that administer the server. An instant is the same in every session; what is cut to
# periods, cast to a date or read as text is by the company's clock
IN_REPORTING_ZONE = ("transformer", "publisher", "bi_reader")


def session_options(settings: Settings, role: str) -> dict[str, str]:
    """{setting: value} of a role's sessions."""
    is_limited = role.startswith(READER)
    options = OPTIONS_BY_ROLE.get(LIMITED if is_limited else role, OPTIONS)
    is_in_zone = is_limited or role in IN_REPORTING_ZONE
    return options | ({"timezone": settings.rules.reporting_time_zone} if is_in_zone else {})


def reader_role(name: str | None) -> str:
    """The role of the warehouse that a role of readers.yml reads as; `bi_reader`, which sees everything, for None."""
    return "bi_reader" if name is None else f"{READER}{name}"


def limited_roles(settings: Settings) -> list[str]:
    """The roles of the warehouse that see a part of the marts only."""
    return [reader_role(name) for name in settings.readers.roles]


def reader_roles(settings: Settings) -> list[str]:
    """All roles of the warehouse that readers log in as."""
    return ["bi_reader", *limited_roles(settings)]


def count_days_in(connection: Connection, zone: str, is_local: bool = False) -> None:
    """Have a session, or its transaction alone, count days by the clock of a time zone."""
    if connection.info.parameter_status("TimeZone") != zone:
        connection.execute("select set_config('timezone', %s, %s)", [zone, is_local])


def uri(settings: Settings, role: str = "loader", database: str | None = None) -> str:
    """The postgresql:// address of the warehouse for `role` ('owner' is the administrator); starts the embedded server.

    The options of the warehouse's own address (sslmode, sslrootcert, ...) are in the address of every role.
    Raises NorthstarError for an address that names no host, or that goes over a network and does not ask for TLS.
    """
    if settings.warehouse_url:
        replica = settings.reader_url if role == "bi_reader" or role.startswith(READER) else None
        parts = (
            _check_address(settings.warehouse_url)
            if replica is None
            else _check_address(replica, "NORTHSTAR_READER_URL")
        )
        if role == "owner":
            require_administrator(settings, "this")
            if parts.username and parts.password is None and settings.known_secret("owner_password"):
                user = f"{parts.username}:{quote(password(settings, role), safe='')}"
                parts = parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}")
            return urlunsplit(parts._replace(path=f"/{database}") if database else parts)
        place = f"{_bracket_host(parts.hostname or '')}:{parts.port or 5432}"
        database, query = database or database_name(settings), f"?{parts.query}" if parts.query else ""
    else:
        place, query = f"127.0.0.1:{embedded.ensure_running(settings).port}", ""
    user = "northstar_owner" if role == "owner" else role_name(settings, role)
    return f"postgresql://{user}:{quote(password(settings, role), safe='')}@{place}/{database or DATABASE}{query}"


def has_administrator(settings: Settings) -> bool:
    """Whether we can connect as the administrator: always to the embedded server; to an external one when its address names the user."""
    return not settings.warehouse_url or bool(_check_address(settings.warehouse_url).username)


def require_administrator(settings: Settings, action: str) -> None:
    """Raise NorthstarError when we cannot connect as the administrator, who alone may do `action`."""
    if not has_administrator(settings):
        raise NorthstarError(
            f"{action} needs the administrator: run it once with NORTHSTAR_WAREHOUSE_URL=postgresql://ADMINISTRATOR@HOST/DATABASE "
            "and the password in NORTHSTAR_SECRET_OWNER_PASSWORD"
        )


def database_name(settings: Settings) -> str:
    """The name of the warehouse's database."""
    return (urlsplit(settings.warehouse_url).path.lstrip("/") if settings.warehouse_url else "") or DATABASE


def role_name(settings: Settings, role: str) -> str:
    """The name on the home's server of the role that this code calls `role`."""
    return f"{role_prefix(settings)}{role}"


def airflow_database(settings: Settings) -> str:
    """The name of Airflow's own database on the home's server."""
    return f"{role_prefix(settings)}{AIRFLOW_DATABASE}"


def replace_role_names(settings: Settings, statements: str) -> str:
    """The SQL with the words of SERVER_ROLES replaced by the home's names for these roles."""
    return ROLE_WORDS.sub(lambda found: sql.Identifier(role_name(settings, found[0])).as_string(None), statements)


def role_prefix(settings: Settings) -> str:
    """The prefix of the names of the home's roles, and of Airflow's database.

    It is empty on an embedded Postgres, which has no other users. On an external one it is NORTHSTAR_ROLE_PREFIX; else the prefix that the
    warehouse was made with, which is read once as the administrator and then kept in the home; else, for a new warehouse, it comes from the
    database's name, because roles belong to the whole server.
    """
    if not settings.warehouse_url:
        return ""
    if settings.role_prefix is not None:
        return settings.role_prefix
    with suppress(OSError):
        remembered_prefix = (read_json(settings.home / "names.json") or {}).get(
            _server_and_database(settings, settings.warehouse_url)
        )
        if isinstance(remembered_prefix, str):
            return remembered_prefix
    warehouse_prefix = existing_prefix(settings) if has_administrator(settings) else None
    if warehouse_prefix is None:
        return default_prefix(database_name(settings))
    remember_prefix(settings, warehouse_prefix)
    return warehouse_prefix


def remember_prefix(settings: Settings, prefix: str) -> None:
    """Keep in the home the prefix that an external warehouse was made with, for later calls that cannot connect as the administrator."""
    if not settings.warehouse_url:
        return
    # nothing is lost when the home cannot be written to, or another process is writing the file: the next call reads the prefix again
    with suppress(OSError):
        write_private(
            settings.home / "names.json", json.dumps({_server_and_database(settings, settings.warehouse_url): prefix})
        )


def _server_and_database(settings: Settings, address: str) -> str:
    parts = _check_address(address)
    return f"{parts.hostname}:{parts.port or 5432}/{database_name(settings)}"


def default_prefix(database: str) -> str:
    """The prefix of a new warehouse in an external database: the database's name; shortened, with a hash, if it cannot be part of a role's name."""
    name = re.sub(r"[^a-z0-9_]", "_", database.lower())
    if name != database or len(name) >= PREFIX_LENGTH or name.startswith("pg_"):
        name = f"ns_{name[:20]}_{hashlib.sha256(database.encode()).hexdigest()[:8]}"
    return f"{name}_"


def existing_prefix(settings: Settings) -> str | None:
    """The prefix of the roles that own an existing warehouse, read as the administrator; None if there is no warehouse, or no answer."""
    try:
        with psycopg.connect(uri(settings, "owner"), connect_timeout=10) as connection:
            return read_prefix(connection)
    except psycopg.Error:
        # the caller connects next, and that attempt reports the reason
        return None


def read_prefix(connection: Connection | psycopg.Connection[TupleRow]) -> str | None:
    """The prefix of the role that owns the landed tables in this connection's database; None if there is no warehouse."""
    row = connection.execute(
        "select left(pg_get_userbyid(nspowner), -6) from pg_namespace where nspname = 'staging' "
        "and pg_get_userbyid(nspowner) like '%loader' and to_regclass('audit.bootstrapped') is not null"
    ).fetchone()
    if row is None:
        return None
    prefix: str = next(iter(row.values() if isinstance(row, dict) else row))
    return prefix


def tls_options(address: str) -> dict[str, str]:
    """The options for TLS that an address has: sslmode, sslrootcert, sslcert, sslkey."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(address).query).items() if name.startswith("ssl")}


def _check_address(address: str, variable: str = "NORTHSTAR_WAREHOUSE_URL") -> SplitResult:
    parts = urlsplit(address)
    if not parts.hostname:
        raise NorthstarError(f"{variable} names no host; write postgresql://USER:PASSWORD@HOST/DATABASE")
    if not _is_loopback(parts.hostname) and tls_options(address).get("sslmode") not in SSL_MODES:
        raise NorthstarError(
            f"the warehouse {parts.hostname} is another machine and its address does not ask for TLS: add "
            f"?sslmode=verify-full&sslrootcert=FILE to {variable} (or sslmode=disable, on a network that you trust)"
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracket_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def retry_while_recovering(settings: Settings, connect: Callable[[], Result], is_awaited: bool = False) -> Result:
    """Call `connect` and return its result; it is retried for a minute while a server that crashed is still recovering.

    is_awaited: retry also while nothing answers at an external server's address, for callers who were connected a moment ago.
    """
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return connect()
        except Exception as exc:
            if time.monotonic() > deadline or not is_starting_up(exc, is_awaited or not settings.warehouse_url):
                raise
            time.sleep(0.2)


@contextmanager
def translate_driver_errors(settings: Settings) -> Iterator[None]:
    """Turn a driver's error that is raised inside into a NorthstarError of one line: the connection was lost, or the server refused.

    Raises OutOfMemory or OutOfDisk when that is the cause, PassingError for a transaction that the server undid because of another one, WarehouseLost for a
    lost connection. Other errors pass unchanged.
    """
    try:
        yield
    except NorthstarError:
        raise
    except Exception as exc:
        driver_error = _find_driver_error(exc)
        if driver_error is None:
            raise
        message = (str(driver_error).strip() or type(driver_error).__name__).splitlines()[0]
        if exhausted := find_resource_error(settings, exc):
            raise exhausted from exc
        if _is_refusal(driver_error):
            raise NorthstarError(f"the warehouse refused a statement: {message}") from exc
        if _sqlstate(driver_error).startswith("40"):
            raise PassingError(f"the warehouse undid a step because of another session: {message}; run again") from exc
        raise WarehouseLost(f"the connection to the warehouse was lost: {message}; run again") from exc


def find_resource_error(settings: Settings, exc: BaseException) -> OutOfMemory | OutOfDisk | None:
    """OutOfMemory or OutOfDisk, if the error says so, or (for the disk) the disk itself or the last minute of the server's log; else None."""
    return resource_error(exc) or (OutOfDisk() if embedded.ran_out_of_disk(settings) else None)


def _find_driver_error(exc: BaseException | None) -> BaseException | None:
    """The operational error of a driver among `exc` and its causes; None if there is none."""
    # the drivers are psycopg, and psycopg2, which Great Expectations uses through SQLAlchemy
    while exc is not None:
        kind = type(exc)
        if kind.__module__.startswith("psycopg") and any(
            c.__name__ in ("OperationalError", "InterfaceError") for c in kind.__mro__
        ):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


def _is_refusal(exc: BaseException) -> bool:
    """Whether the error is the server's refusal (a limit, a time-out, a lock), which drivers call operational as well, and not a lost connection."""
    return _sqlstate(exc).startswith(("54", "55", "57014"))


def _sqlstate(exc: BaseException) -> str:
    """The server's code of a driver's error; '' where the server said none."""
    return getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None) or ""


def password(settings: Settings, role: str) -> str:
    """The password of `role`: a secret of the home, or of the environment for an external warehouse."""
    secret_name = f"{role}_password"
    if has_administrator(settings):
        return settings.secret(secret_name)
    # the role exists already: a password that is made up here would not be its own
    secret = settings.known_secret(secret_name)
    if secret is None:
        raise NorthstarError(
            f"the password of the role {role} is not known here: set NORTHSTAR_SECRET_{secret_name.upper()}"
        )
    return secret


def connect(
    settings: Settings,
    role: str = "loader",
    autocommit: bool = False,
    database: str | None = None,
    is_awaited: bool = False,
) -> Connection:
    """A psycopg connection as `role`, rows as dicts, in the time zone of `session_options`.

    is_awaited: wait for an external server that is being restarted; for callers who have something to give back. Raises NorthstarError
    when the warehouse cannot be reached.
    """
    address, options = uri(settings, role, database), session_options(settings, role)
    try:

        def open_connection() -> Reusable:
            # uri() starts an embedded server again that has stopped in the meantime
            return _open(address if settings.warehouse_url else uri(settings, role, database), role, options)

        place = (address, role, tuple(options.items()))
        connection = take_idle(place) or retry_while_recovering(settings, open_connection, is_awaited)
        connection.keep_as(place)
        if settings.warehouse_url and _is_pooled(address, connection):
            for name, value in options.items():
                connection.execute("select set_config(%s, %s, false)", [name, value])
        # not among the options above: a server that does not know the setting would refuse the connection
        if role == "owner" and connection.info.server_version >= 170000:
            connection.execute("set transaction_timeout = 0")
        connection.autocommit = autocommit
        return connection
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[-1]
        is_refused = is_login_refused(exc)
        if role != "owner" and not settings.warehouse_url and (is_refused or is_database_missing(exc, DATABASE)):
            raise NorthstarError(
                f"{settings.home} has no warehouse yet; `make run` or `northstar run` creates one"
            ) from exc
        raise WarehouseUnreachable(role, reason, is_refused) from exc


def _open(address: str, role: str, options: dict[str, str]) -> Reusable:
    def connect_with(startup_options: str | None) -> Reusable:
        return Reusable.connect(
            address, autocommit=True, row_factory=dict_row, application_name=f"northstar {role}", connect_timeout=10, options=startup_options
        )  # fmt: skip

    try:
        return connect_with(" ".join(f"-c {n}={v.replace(', ', ',')}" for n, v in options.items()))
    except psycopg.OperationalError as exc:
        if not are_options_refused(exc):
            raise
        return connect_with(None)


def _is_pooled(address: str, connection: Connection) -> bool:
    """Whether a pooler stands between this machine and the server; it is tested once for each address.

    Raises NorthstarError when the pooler lets several sessions share one connection to the server: settings, locks, prepared statements
    and temporary tables of one session would then be another's.
    """
    if address not in POOLED:
        backend_pid = _backend_pid(connection)
        POOLED[address] = backend_pid != connection.info.backend_pid
        if POOLED[address]:
            with psycopg.connect(
                address, autocommit=True, row_factory=dict_row, connect_timeout=10
            ) as second_connection:
                # several times in turn, because another session may take the connection in between
                pid_pairs = [(_backend_pid(connection), _backend_pid(second_connection)) for _ in range(3)]
            if (
                any(first_pid == second_pid for first_pid, second_pid in pid_pairs)
                or len({first_pid for first_pid, _ in pid_pairs}) > 1
            ):
                del POOLED[address]
                connection.close()
                raise NorthstarError(
                    "the warehouse is behind a pooler, such as PgBouncer, that shares one connection between several sessions: set "
                    "pool_mode = session there for its database, or give the server's own address in NORTHSTAR_WAREHOUSE_URL"
                )
    return POOLED[address]


def _backend_pid(connection: Connection) -> int:
    pid: int = fetch_one(connection.execute("select pg_backend_pid() as pid"))["pid"]
    return pid


def fetch_lots(
    connection: Connection, query: Query, values: Params | None = None, fetch_size: int = 50
) -> Iterator[list[Row]]:
    """The rows of a query in lots that fit into memory: a lot ends at LOT_ROWS rows or LOT_BYTES of text.

    fetch_size: how many rows come from the server at once; give more when each row is known to be short.
    """
    lot: list[Row] = []
    size = 0
    with connection.cursor(name="lots") as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(fetch_size):
            lot += rows
            size += sum(len(value) for row in rows for value in row.values() if isinstance(value, str))
            if len(lot) >= LOT_ROWS or size >= LOT_BYTES:
                yield lot
                lot, size = [], 0
        if lot:
            yield lot
