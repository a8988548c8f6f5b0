"""Connections of dbt that are kept from one node to the next, and that keep the run's turn to write.

By itself dbt closes a node's connection and opens another for the next node. Each is a process of the server, with a log-in and empty caches of
the catalogue; together they take a third of the server's CPU time in a run with almost no changes. What a node leaves in its session is discarded
before the next node, as a pooler does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from northstar.base.errors import NorthstarError, TurnLost
from northstar.warehouse import turn_lock

if TYPE_CHECKING:
    from dbt.adapters.base.connections import BaseConnectionManager
    from dbt.adapters.contracts.connection import Connection

# SQL; unlike `discard all` it does not release the lock by which the session keeps the turn
RESET = f"reset all; discard temp; {turn_lock.END_WITH_CLIENT.format(is_local='false')}"


class Handle(Protocol):
    """A connection of psycopg2, which has no types: what is used of it from another thread."""

    closed: int

    def cancel(self) -> None:
        """Cancel the statement that is being executed."""


@contextmanager
def reuse_connections(run_id: int | None, zone: str = "UTC") -> Iterator[list[Handle]]:
    """Have dbt build inside with one connection for each of its threads, all of which keep the turn of a run; gives the list of them.

    run_id: None for a build outside of any turn. zone: the time zone in which the models count days. dbt closes the connections when it ends. Raises TurnLost afterwards if a connection could not
    keep the turn, because another had it.
    """
    from dbt.adapters.contracts.connection import ConnectionState
    from dbt.adapters.exceptions.connection import FailedToConnectError
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager

    original_open, original_release = Manager.__dict__["open"], Manager.release
    connections_without_turn: list[str | None] = []
    handles: list[Handle] = []
    *hold, lost = [turn_lock.END_WITH_CLIENT.format(is_local="false"), "select false as is_lost"]
    if run_id is not None:
        *hold, lost = turn_lock.keep_statements(run_id, is_session=True)
    hold += count_days_in(zone)

    def open_connection(cls: type[Manager], connection: Connection) -> Connection:
        connection = original_open.__func__(cls, connection)
        with connection.handle.cursor() as cursor:
            cursor.execute("; ".join(hold))
            cursor.execute(lost)
            is_lost = cursor.fetchone()[0]
        connection.handle.commit()
        handles.append(connection.handle)
        if is_lost and run_id is not None:
            connections_without_turn.append(connection.name)
            connection.handle.close()
            connection.handle, connection.state = None, ConnectionState.FAIL
            raise FailedToConnectError(str(TurnLost(run_id)))
        return connection

    def release_connection(manager: BaseConnectionManager) -> None:
        connection = manager.get_if_exists()
        if connection is None or connection.state != "open":
            original_release(manager)
            return
        try:
            reset(connection.handle, zone)
            connection.transaction_open = False
        except Exception:
            # a lost or broken connection is not kept
            original_release(manager)

    # Any: a class's methods are replaced, which no type allows
    patched: Any = Manager
    patched.open, patched.release = classmethod(open_connection), release_connection
    try:
        yield handles
    except NorthstarError as exc:
        if connections_without_turn and run_id is not None:
            raise TurnLost(run_id) from exc
        raise
    finally:
        patched.open, patched.release = original_open, original_release
    if connections_without_turn and run_id is not None:
        raise TurnLost(run_id)


def count_days_in(zone: str) -> list[str]:
    """The statements after which a session of a role that is in UTC by itself counts days in a time zone (its name is one that Python knows)."""
    return [] if zone == "UTC" else [f"set timezone = '{zone}'"]


# Any: psycopg2 has no types
def reset(handle: Any, zone: str = "UTC") -> None:
    """Reset the session of a psycopg2 connection to its initial state: no transaction, settings or temporary tables. It keeps the turn."""
    handle.rollback()
    with handle.cursor() as cursor:
        cursor.execute("; ".join([RESET, *count_days_in(zone)]))
    handle.commit()
