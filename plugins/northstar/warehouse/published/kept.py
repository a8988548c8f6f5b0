"""Which published versions are kept: the upkeep deletes what only older versions need."""

from northstar.base.errors import NorthstarError
from northstar.warehouse.rows import Connection, fetch_one


def oldest_kept_version(connection: Connection) -> int | None:
    """The oldest published version that can still be read, verified and put back; None while all versions can."""
    if fetch_one(connection.execute("select to_regclass('audit.maintenance') as t"))["t"] is None:
        return None
    oldest: int | None = fetch_one(connection.execute("select max(oldest_version) as v from audit.maintenance"))["v"]
    return oldest


def require_kept(connection: Connection, version: int) -> None:
    """Raise NorthstarError for a version whose rows were pruned."""
    oldest = oldest_kept_version(connection)
    if oldest is not None and version < oldest:
        raise not_kept_error(version, oldest)


def not_kept_error(version: int, oldest: int) -> NorthstarError:
    """The error for a version whose rows were pruned."""
    return NorthstarError(
        f"version {version} is no longer kept (keep_versions_days in operations.yml); the oldest kept version is {oldest}"
    )
