"""Whether publishing is held (northstar.runs.hold)."""

from northstar.base.errors import NorthstarError


def describe(connection) -> str | None:
    """In words that publishing is held, since when, by whom and why; None while it is not."""
    # a home that an older release left knows no holds until its next run
    if connection.execute("select to_regclass('audit.holds') as t").fetchone()["t"] is None:
        return None
    row = connection.execute("select * from audit.holds where ended_at is null").fetchone()
    return (
        row and f"publishing is held since {row['began_at']:%Y-%m-%d %H:%M} UTC by {row['by_whom']}: {row['because']}"
    )


def require_none(connection) -> None:
    """Raise NorthstarError while publishing is held."""
    if words := describe(connection):
        raise NorthstarError(f"{words}; `northstar hold --end` ends it")
