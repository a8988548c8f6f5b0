"""The one place that opens connections to the warehouse, and that knows what its roles and databases are called."""

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

from northstar.base.errors import NorthstarError, OutOfDisk, OutOfMemory, WarehouseLost, WarehouseUnreachable
from northstar.base.files import read_json, write_private
from northstar.base.settings import Settings
from northstar.base.third_parties import (
    is_coming_up,
    is_database_missing,
    is_login_refused,
    is_without_options,
    resource_exhausted,
)
from northstar.warehouse import embedded
from northstar.warehouse.rows import Connection, Row, one

ROLES = ("loader", "transformer", "publisher", "bi_reader")
DATABASE = "northstar"
# Airflow's own database and the one role beside the administrator that reaches it
AIRFLOW_DATABASE, AIRFLOW_ROLE = "airflow", "airflow_db"
ROLE_WORDS = re.compile(rf"\b({'|'.join((*ROLES, AIRFLOW_ROLE))})\b")
# a role's name has 63 bytes at most
PREFIX_LENGTH = 40
Made = TypeVar("Made")
# whether an address leads to a pooler
POOLED: dict[str, bool] = {}
RECOVERY_SECONDS = 60
# what of a table is held in memory at once
LOT_ROWS, LOT_BYTES = 5_000, 8 << 20
OPTIONS = {"timezone": "UTC"}
READER_SETTINGS = {
    "search_path": "marts",
    "default_transaction_read_only": "on",
    # what nobody waits for any more must not hold back the publisher's changes to a mart, nor vacuum
    "statement_timeout": "10min",
    "idle_in_transaction_session_timeout": "10min",
}
# what a connection says beside that: the reader its role's own settings, since whoever has its password may change those; who sets up the
# warehouse that a limit which the server has for its other users is none for it
OPTIONS_BY_ROLE = {
    "bi_reader": OPTIONS | READER_SETTINGS,
    "owner": OPTIONS | {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"},
}
# what an address over a network may say of TLS: allow and prefer, libpq's default, fall back to clear text without a word
SSL_MODES = ("verify-full", "verify-ca", "require", "disable")


def uri(settings: Settings, role: str = "loader", database: str | None = None) -> str:
    """The postgresql:// address of the warehouse as `role` ('owner' is the administrator); starts the embedded server.

    What the warehouse's own address says beside host and database (sslmode, sslrootcert, ...) every role's says too.
    Raises NorthstarError for an address that names no host, or that goes over a network and says nothing of TLS.
    """
    if settings.warehouse_url:
        replica = settings.reader_url if role == "bi_reader" else None
        parts = _checked(settings.warehouse_url) if replica is None else _checked(replica, "NORTHSTAR_READER_URL")
        if role == "owner":
            require_administrator(settings, "this")
            if parts.username and parts.password is None and settings.known_secret("owner_password"):
                user = f"{parts.username}:{quote(password(settings, role), safe='')}"
                parts = parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}")
            return urlunsplit(parts._replace(path=f"/{database}") if database else parts)
        place = f"{_bracketed(parts.hostname or '')}:{parts.port or 5432}"
        database, query = database or database_of(settings), f"?{parts.query}" if parts.query else ""
    else:
        place, query = f"127.0.0.1:{embedded.ensure_running(settings).port}", ""
    user = "northstar_owner" if role == "owner" else role_name(settings, role)
    return f"postgresql://{user}:{quote(password(settings, role), safe='')}@{place}/{database or DATABASE}{query}"


def has_administrator(settings: Settings) -> bool:
    """Whether the administrator may be asked: always the embedded server's, an external one's where the address names it."""
    return not settings.warehouse_url or bool(_checked(settings.warehouse_url).username)


def require_administrator(settings: Settings, what: str) -> None:
    """Raise NorthstarError where only an administrator may do `what`, and the address of the warehouse names none."""
    if not has_administrator(settings):
        raise NorthstarError(
            f"{what} needs the administrator: run it once with NORTHSTAR_WAREHOUSE_URL=postgresql://ADMINISTRATOR@HOST/DATABASE "
            "and the password in NORTHSTAR_SECRET_OWNER_PASSWORD"
        )


def database_of(settings: Settings) -> str:
    """The name of the warehouse's database."""
    return (urlsplit(settings.warehouse_url).path.lstrip("/") if settings.warehouse_url else "") or DATABASE


def role_name(settings: Settings, role: str) -> str:
    """What the role called `role` in this code is called on the home's server."""
    return f"{prefix_of(settings)}{role}"


def airflow_database(settings: Settings) -> str:
    """The name of Airflow's own database on the home's server."""
    return f"{prefix_of(settings)}{AIRFLOW_DATABASE}"


def with_role_names(settings: Settings, statements: str) -> str:
    """SQL in which the words loader, transformer, publisher, bi_reader and airflow_db have become the home's names of them."""
    return ROLE_WORDS.sub(lambda found: sql.Identifier(role_name(settings, found[0])).as_string(None), statements)


def prefix_of(settings: Settings) -> str:
    """What the names of the home's roles, and of Airflow's database, begin with.

    Nothing on an embedded Postgres, which has no other users. On an external one NORTHSTAR_ROLE_PREFIX; else what the warehouse was made
    with, which its administrator is asked for once and the home remembers; else, for a new one, the database's name, since roles belong
    to the whole server.
    """
    if not settings.warehouse_url:
        return ""
    if settings.role_prefix is not None:
        return settings.role_prefix
    with suppress(OSError):
        remembered_prefix = (read_json(settings.home / "names.json") or {}).get(
            _place(settings, settings.warehouse_url)
        )
        if isinstance(remembered_prefix, str):
            return remembered_prefix
    warehouse_prefix = standing_prefix(settings) if has_administrator(settings) else None
    if warehouse_prefix is None:
        return default_prefix(database_of(settings))
    remember_prefix(settings, warehouse_prefix)
    return warehouse_prefix


def remember_prefix(settings: Settings, prefix: str) -> None:
    """Write down in the home what an external warehouse was made with, for who has no administrator to ask."""
    if not settings.warehouse_url:
        return
    # nothing is lost when the home cannot be written to, or another process is just writing it: the next one asks again
    with suppress(OSError):
        write_private(settings.home / "names.json", json.dumps({_place(settings, settings.warehouse_url): prefix}))


def _place(settings: Settings, address: str) -> str:
    parts = _checked(address)
    return f"{parts.hostname}:{parts.port or 5432}/{database_of(settings)}"


def default_prefix(database: str) -> str:
    """The prefix of a new warehouse in an external database: its name, cut and told apart by a hash where it cannot be a role's name."""
    name = re.sub(r"[^a-z0-9_]", "_", database.lower())
    if name != database or len(name) >= PREFIX_LENGTH or name.startswith("pg_"):
        name = f"ns_{name[:20]}_{hashlib.sha256(database.encode()).hexdigest()[:8]}"
    return f"{name}_"


def standing_prefix(settings: Settings) -> str | None:
    """What the roles that own a standing warehouse are called by, as its administrator sees it; None where there is none, or no answer."""
    try:
        with psycopg.connect(uri(settings, "owner"), connect_timeout=10) as connection:
            return made_with_prefix(connection)
    except psycopg.Error:
        # whoever asked connects next, and tells why that is impossible
        return None


def made_with_prefix(connection: Connection | psycopg.Connection[TupleRow]) -> str | None:
    """The prefix of the role that owns the landed tables of the warehouse on this connection; None where there is no warehouse."""
    row = connection.execute(
        "select left(pg_get_userbyid(nspowner), -6) from pg_namespace where nspname = 'staging' "
        "and pg_get_userbyid(nspowner) like '%loader' and to_regclass('audit.bootstrapped') is not null"
    ).fetchone()
    if row is None:
        return None
    prefix: str = next(iter(row.values() if isinstance(row, dict) else row))
    return prefix


def tls_options(address: str) -> dict[str, str]:
    """What an address says of TLS: sslmode, sslrootcert, sslcert, sslkey, as far as it does."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(address).query).items() if name.startswith("ssl")}


def _checked(address: str, variable: str = "NORTHSTAR_WAREHOUSE_URL") -> SplitResult:
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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def once_recovered(settings: Settings, connect: Callable[[], Made], is_awaited: bool = False) -> Made:
    """What `connect` returns, tried again for a minute while a server that crashed is still recovering.

    is_awaited: also while nothing answers at an external server's address, which is where it was a moment ago.
    """
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return connect()
        except Exception as exc:
            if time.monotonic() > deadline or not is_coming_up(exc, is_awaited or not settings.warehouse_url):
                raise
            time.sleep(0.2)


@contextmanager
def telling_of_loss(settings: Settings) -> Iterator[None]:
    """What loses its connection inside, or is refused by the server, through whichever driver, ends with a NorthstarError of one line."""
    try:
        yield
    except NorthstarError:
        raise
    except Exception as exc:
        driver_error = _loss(exc)
        if driver_error is None:
            raise
        message = (str(driver_error).strip() or type(driver_error).__name__).splitlines()[0]
        if exhausted := exhausted_resource(settings, exc):
            raise exhausted from exc
        if _is_answer(driver_error):
            raise NorthstarError(f"the warehouse refused what it was asked: {message}") from exc
        raise WarehouseLost(f"the connection to the warehouse was lost: {message}; run again") from exc


def exhausted_resource(settings: Settings, exc: BaseException) -> OutOfMemory | OutOfDisk | None:
    """What the machine lacked, where an error says so, or its disk or the server's log of the last minute does; else None."""
    return resource_exhausted(exc) or (OutOfDisk() if embedded.ran_out_of_disk(settings) else None)


def _loss(exc: BaseException | None) -> BaseException | None:
    """The driver's error behind `exc` that says that the connection is gone."""
    # psycopg, and psycopg2 below Great Expectations' SQLAlchemy
    while exc is not None:
        kind = type(exc)
        if kind.__module__.startswith("psycopg") and any(
            c.__name__ in ("OperationalError", "InterfaceError") for c in kind.__mro__
        ):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


def _is_answer(exc: BaseException) -> bool:
    """Whether the server lives and says what it will not do (a limit, a time-out, a lock), which drivers call operational as well."""
    code = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None) or ""
    return code.startswith(("54", "55", "57014"))


def password(settings: Settings, role: str) -> str:
    """The password of `role`: a secret of the home, or of the environment for an external warehouse."""
    secret_name = f"{role}_password"
    if has_administrator(settings):
        return settings.secret(secret_name)
    # made up here it would be nobody's
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
    """A psycopg connection as `role`, rows as dicts, in UTC.

    is_awaited: for who has something to give back; an external server that is just restarted is waited for. Raises NorthstarError when
    the warehouse cannot be reached.
    """
    address, options = uri(settings, role, database), OPTIONS_BY_ROLE.get(role, OPTIONS)
    try:

        def opened() -> Connection:
            # an embedded server that is gone meanwhile is started again
            return _open(address if settings.warehouse_url else uri(settings, role, database), role, options)

        connection = once_recovered(settings, opened, is_awaited)
        if settings.warehouse_url and _is_pooled(address, connection):
            for name, value in options.items():
                connection.execute("select set_config(%s, %s, false)", [name, value])
        # an option that an older server does not know would keep everybody out
        if role == "owner" and connection.info.server_version >= 170000:
            connection.execute("set transaction_timeout = 0")
        connection.autocommit = autocommit
        return connection
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[-1]
        is_refused = is_login_refused(exc)
        if role != "owner" and not settings.warehouse_url and (is_refused or is_database_missing(exc, DATABASE)):
            raise NorthstarError(
                f"{settings.home} has no warehouse yet; `make run` or `northstar run` makes one"
            ) from exc
        raise WarehouseUnreachable(role, reason, is_refused) from exc


def _open(address: str, role: str, options: dict[str, str]) -> Connection:
    def opened(said: str | None) -> Connection:
        return psycopg.connect(
            address, autocommit=True, row_factory=dict_row, application_name=f"northstar {role}", connect_timeout=10, options=said
        )  # fmt: skip

    try:
        return opened(" ".join(f"-c {n}={v}" for n, v in options.items()))
    except psycopg.OperationalError as exc:
        if not is_without_options(exc):
            raise
        return opened(None)


def _is_pooled(address: str, connection: Connection) -> bool:
    """Whether something between this machine and the server gives its connections to whom it likes, asked once by address.

    Raises NorthstarError where one connection to the server serves several sessions at once: what one of them sets, locks, prepares or
    makes for itself would be another's.
    """
    if address not in POOLED:
        backend_pid = _backend(connection)
        POOLED[address] = backend_pid != connection.info.backend_pid
        if POOLED[address]:
            with psycopg.connect(
                address, autocommit=True, row_factory=dict_row, connect_timeout=10
            ) as second_connection:
                # in turn, since another session may take the one connection in between
                pid_pairs = [(_backend(connection), _backend(second_connection)) for _ in range(3)]
            if (
                any(first_pid == second_pid for first_pid, second_pid in pid_pairs)
                or len({first_pid for first_pid, _ in pid_pairs}) > 1
            ):
                del POOLED[address]
                connection.close()
                raise NorthstarError(
                    "the warehouse is behind PgBouncer, or the like, which gives one connection to several sessions in turn: set "
                    "pool_mode = session there for its database, or name the server itself in NORTHSTAR_WAREHOUSE_URL"
                )
    return POOLED[address]


def _backend(connection: Connection) -> int:
    pid: int = one(connection.execute("select pg_backend_pid() as pid"))["pid"]
    return pid


def lots(connection: Connection, query: Query, values: Params | None = None, fetched: int = 50) -> Iterator[list[Row]]:
    """The rows of a query in lots that fit into memory, however many there are and however long: so many rows, or bytes of text.

    fetched: how many come from the server at once; more where each is known to be short.
    """
    lot: list[Row] = []
    size = 0
    with connection.cursor(name="lots") as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(fetched):
            lot += rows
            size += sum(len(value) for row in rows for value in row.values() if isinstance(value, str))
            if len(lot) >= LOT_ROWS or size >= LOT_BYTES:
                yield lot
                lot, size = [], 0
        if lot:
            yield lot
