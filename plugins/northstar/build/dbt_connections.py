"""dbt's threads keep their connections from one node to the next, and each connection keeps the run's turn to write.

dbt closes a node's connection and opens another for the next one. Each is a process of the server, with a log-in and empty caches of the catalogue: a
third of the CPU that the server takes for a run on next to nothing. What a node leaves in its session is thrown away in between, as a pooler does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from northstar.base.errors import LeaseLost, NorthstarError
from northstar.warehouse import lease

if TYPE_CHECKING:
    from dbt.adapters.base.connections import BaseConnectionManager
    from dbt.adapters.contracts.connection import Connection

# the lock by which the session keeps the turn stays, unlike with `discard all`
RESET = f"reset all; discard temp; {lease.LEAVE_WITH_CLIENT.format(is_local='false')}"


@contextmanager
def kept_connections(run_id: int) -> Iterator[None]:
    """What dbt builds inside, it builds on one connection for each of its threads, all of which keep the turn of a run.

    dbt closes them when it has ended. Raises NorthstarError afterwards where one could not keep the turn, for it was another's.
    """
    from dbt.adapters.contracts.connection import ConnectionState
    from dbt.adapters.exceptions.connection import FailedToConnectError
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager

    opening, releasing = Manager.__dict__["open"], Manager.release
    refused: list[str | None] = []
    *hold, lost = lease.statements(run_id, is_session=True)

    def opened(cls: type[Manager], connection: Connection) -> Connection:
        connection = opening.__func__(cls, connection)
        with connection.handle.cursor() as cursor:
            cursor.execute("; ".join(hold))
            cursor.execute(lost)
            is_lost = cursor.fetchone()[0]
        connection.handle.commit()
        if is_lost:
            refused.append(connection.name)
            connection.handle.close()
            connection.handle, connection.state = None, ConnectionState.FAIL
            raise FailedToConnectError(str(LeaseLost(run_id)))
        return connection

    def released(manager: BaseConnectionManager) -> None:
        connection = manager.get_if_exists()
        if connection is None or connection.state != "open":
            releasing(manager)
            return
        try:
            reset(connection.handle)
            connection.transaction_open = False
        except Exception:
            # a connection that is lost or broken is none to keep
            releasing(manager)

    # Any: a class's methods are replaced, which no type allows
    patched: Any = Manager
    patched.open, patched.release = classmethod(opened), released
    try:
        yield
    except NorthstarError as exc:
        if refused:
            raise LeaseLost(run_id) from exc
        raise
    finally:
        patched.open, patched.release = opening, releasing
    if refused:
        raise LeaseLost(run_id)


# Any: psycopg2 has no types
def reset(handle: Any) -> None:
    """Put a psycopg2 connection's session back to what it was when it began, but for the turn: no transaction, settings, temporary tables."""
    handle.rollback()
    with handle.cursor() as cursor:
        cursor.execute(RESET)
    handle.commit()
