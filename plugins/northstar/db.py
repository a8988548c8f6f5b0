"""The one place that opens connections to the warehouse."""

import ipaddress
import time
from collections.abc import Callable
from contextlib import contextmanager
from urllib.parse import SplitResult, parse_qs, quote, urlsplit, urlunsplit

import psycopg
from psycopg.rows import dict_row

from northstar import embedded
from northstar.errors import NorthstarError, full_disk, lacking
from northstar.settings import Settings

ROLES = ("loader", "transformer", "publisher", "bi_reader")
DATABASE = "northstar"
# Airflow's own database and the one role beside the administrator that reaches it
AIRFLOW_DATABASE, AIRFLOW_ROLE = "airflow", "airflow_db"
RECOVERY_SECONDS = 60
# what an embedded server says of roles and databases that no run has made
NEVER_SET_UP = [f'password authentication failed for user "{role}"' for role in ROLES] + [
    f'database "{DATABASE}" does not exist'
]
OPTIONS = "-c timezone=UTC"
# the role's own settings, which whoever has its password may change
READER_OPTIONS = " -c search_path=marts -c default_transaction_read_only=on"
NOT_YET = ("in recovery mode", "is starting up", "not yet accepting connections")
# and of an embedded one that just fell, its lock file not yet gone: asked again, it is recovered or started anew
FALLING = ("server closed the connection unexpectedly", "Connection refused", "Connection reset")
# what an address over a network may say of TLS: allow and prefer, libpq's default, fall back to clear text without a word
SSL_MODES = ("verify-full", "verify-ca", "require", "disable")


def uri(settings: Settings, role: str = "loader", database: str | None = None) -> str:
    """The postgresql:// address of the warehouse as `role` ('owner' is the administrator); starts the embedded server.

    What the warehouse's own address says beside host and database (sslmode, sslrootcert, ...) every role's says too.
    Raises NorthstarError for an address that names no host, or that goes over a network and says nothing of TLS.
    """
    if settings.warehouse_url:
        parts = _checked(settings.warehouse_url)
        if role == "owner":
            return urlunsplit(parts._replace(path=f"/{database}")) if database else settings.warehouse_url
        place = f"{_bracketed(parts.hostname)}:{parts.port or 5432}"
        database, query = database or database_of(settings), f"?{parts.query}" if parts.query else ""
    else:
        place, query = f"127.0.0.1:{embedded.ensure_running(settings).port}", ""
    user = "northstar_owner" if role == "owner" else role
    return f"postgresql://{user}:{quote(password(settings, role), safe='')}@{place}/{database or DATABASE}{query}"


def database_of(settings: Settings) -> str:
    """The name of the warehouse's database."""
    return (urlsplit(settings.warehouse_url).path.lstrip("/") if settings.warehouse_url else "") or DATABASE


def tls_options(address: str) -> dict[str, str]:
    """What an address says of TLS: sslmode, sslrootcert, sslcert, sslkey, as far as it does."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(address).query).items() if name.startswith("ssl")}


def _checked(address: str) -> SplitResult:
    parts = urlsplit(address)
    if not parts.hostname:
        raise NorthstarError("NORTHSTAR_WAREHOUSE_URL names no host; write postgresql://USER:PASSWORD@HOST/DATABASE")
    if not _is_loopback(parts.hostname) and tls_options(address).get("sslmode") not in SSL_MODES:
        raise NorthstarError(
            f"the warehouse {parts.hostname} is another machine and its address does not ask for TLS: add "
            "?sslmode=verify-full&sslrootcert=FILE to NORTHSTAR_WAREHOUSE_URL (or sslmode=disable, on a network that you trust)"
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def once_recovered(settings: Settings, connect: Callable):
    """What `connect` returns, tried again for a minute while a server that crashed is still recovering."""
    passing = NOT_YET if settings.warehouse_url else NOT_YET + FALLING
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return connect()
        except Exception as exc:
            if time.monotonic() > deadline or not any(words in str(exc) for words in passing):
                raise
            time.sleep(0.2)


@contextmanager
def telling_of_loss(settings: Settings):
    """What loses its connection inside, or is refused by the server, through whichever driver, ends with a NorthstarError of one line."""
    try:
        yield
    except NorthstarError:
        raise
    except Exception as exc:
        lost = _loss(exc)
        if lost is None:
            raise
        said = (str(lost).strip() or type(lost).__name__).splitlines()[0]
        told = f"the connection to the warehouse was lost: {said}; run again"
        if _is_answer(lost):
            told = f"the warehouse refused what it was asked: {said}"
        raise NorthstarError(lacked(settings, exc) or told) from exc


def lacked(settings: Settings, exc: BaseException) -> str | None:
    """What the machine lacked, where an error says so, or its disk or the server's log of the last minute does; else None."""
    return lacking(exc) or (full_disk() if embedded.ran_out_of_disk(settings) else None)


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
    return settings.secret(f"{role}_password")


def connect(settings: Settings, role: str = "loader", autocommit: bool = False, database: str | None = None):
    """A psycopg connection as `role`, rows as dicts, in UTC.

    Raises NorthstarError when the warehouse cannot be reached.
    """
    try:
        return once_recovered(
            settings,
            lambda: psycopg.connect(
                uri(settings, role, database),
                autocommit=autocommit,
                row_factory=dict_row,
                options=OPTIONS + (READER_OPTIONS if role == "bi_reader" else ""),
                application_name=f"northstar {role}",
                connect_timeout=10,
            ),
        )
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[-1]
        if role != "owner" and not settings.warehouse_url and reason.endswith(tuple(NEVER_SET_UP)):
            raise NorthstarError(
                f"{settings.home} has no warehouse yet; `make run` or `northstar run` makes one"
            ) from exc
        raise NorthstarError(f"cannot reach the warehouse as {role}: {reason}") from exc
