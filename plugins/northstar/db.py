"""The one place that opens connections to the warehouse."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg.rows import dict_row

from northstar import embedded
from northstar.errors import NorthstarError, lacking
from northstar.settings import Settings

ROLES = ("loader", "transformer", "publisher", "bi_reader")
DATABASE = "northstar"
RECOVERY_SECONDS = 60
# what an embedded server says of roles and databases that no run has made
NEVER_SET_UP = [f'password authentication failed for user "{role}"' for role in ROLES] + [
    f'database "{DATABASE}" does not exist'
]
NOT_YET = ("in recovery mode", "is starting up", "not yet accepting connections")


def uri(settings: Settings, role: str = "loader", database: str | None = None) -> str:
    """The postgresql:// address of the warehouse as `role` ('owner' is the administrator); starts the embedded server."""
    if settings.warehouse_url:
        parts = urlsplit(settings.warehouse_url)
        if role == "owner":
            return urlunsplit(parts._replace(path=f"/{database}")) if database else settings.warehouse_url
        place = f"{parts.hostname}:{parts.port or 5432}"
        database, query = database or parts.path.lstrip("/") or DATABASE, f"?{parts.query}" if parts.query else ""
    else:
        place, query = f"127.0.0.1:{embedded.ensure_running(settings).port}", ""
    user = "northstar_owner" if role == "owner" else role
    return f"postgresql://{user}:{quote(password(settings, role))}@{place}/{database or DATABASE}{query}"


def once_recovered(connect: Callable):
    """What `connect` returns, tried again for a minute while a server that crashed is still recovering."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return connect()
        except Exception as exc:
            if time.monotonic() > deadline or not any(words in str(exc) for words in NOT_YET):
                raise
            time.sleep(0.2)


@contextmanager
def telling_of_loss():
    """What loses its connection inside, through whichever driver, ends with a NorthstarError of one line."""
    try:
        yield
    except NorthstarError:
        raise
    except Exception as exc:
        lost = _loss(exc)
        if lost is None:
            raise
        said = (str(lost).strip() or type(lost).__name__).splitlines()[0]
        raise NorthstarError(lacking(exc) or f"the connection to the warehouse was lost: {said}; run again") from exc


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


def password(settings: Settings, role: str) -> str:
    """The password of `role`: a secret of the home, or of the environment for an external warehouse."""
    return settings.secret(f"{role}_password")


def connect(settings: Settings, role: str = "loader", autocommit: bool = False, database: str | None = None):
    """A psycopg connection as `role`, rows as dicts, in UTC.

    Raises NorthstarError when the warehouse cannot be reached.
    """
    try:
        return once_recovered(
            lambda: psycopg.connect(
                uri(settings, role, database),
                autocommit=autocommit,
                row_factory=dict_row,
                options="-c timezone=UTC",
                application_name=f"northstar {role}",
                connect_timeout=10,
            )
        )
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[-1]
        if role != "owner" and not settings.warehouse_url and reason.endswith(tuple(NEVER_SET_UP)):
            raise NorthstarError(
                f"{settings.home} has no warehouse yet; `make run` or `northstar run` makes one"
            ) from exc
        raise NorthstarError(f"cannot reach the warehouse as {role}: {reason}") from exc
