"""Whether publishing is held (northstar.runs.hold)."""

from northstar.base.clock import show_utc
from northstar.base.errors import NorthstarError
from northstar.warehouse.rows import Connection, fetch_one


def describe_hold(connection: Connection) -> str | None:
    """A sentence that says since when, by whom and why publishing is held; None while it is not."""
    # the home of an older release has no such table until its next run
    if fetch_one(connection.execute("select to_regclass('audit.holds') as t"))["t"] is None:
        return None
    row = connection.execute("select * from audit.holds where ended_at is null").fetchone()
    if row is None:
        return None
    return f"publishing is held since {show_utc(row['began_at'])} by {row['by_whom']}: {row['because']}"


def require_no_hold(connection: Connection) -> None:
    """Raise NorthstarError while publishing is held."""
    if words := describe_hold(connection):
        raise NorthstarError(f"{words}; `northstar release` ends it")
