"""dbt's threads keep their connections from one node to the next.

dbt closes a node's connection and opens another for the next one, which costs about 15 ms (a process of the server, its log-in, its empty
caches of the catalogue), 170 times in a run: a third of what a node that does nothing costs. What a node leaves in its session is thrown away in between, as a
pooler does it.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_connections() -> Iterator[None]:
    """What dbt builds inside, it builds on one connection for each of its threads; dbt closes them when it has ended."""
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager

    release = Manager.release

    def keep(manager) -> None:
        connection = manager.get_if_exists()
        if connection is None or connection.state != "open":
            release(manager)
            return
        try:
            _reset(connection.handle)
            connection.transaction_open = False
        except Exception:
            # a connection that is lost or broken is none to keep
            release(manager)

    Manager.release = keep
    try:
        yield
    finally:
        Manager.release = release


def _reset(handle) -> None:
    """Put a psycopg2 connection's session back to what it was when it began: no transaction, settings, temporary tables, locks."""
    handle.rollback()
    was_autocommit, handle.autocommit = handle.autocommit, True
    with handle.cursor() as cursor:
        cursor.execute("discard all")
    handle.autocommit = was_autocommit
