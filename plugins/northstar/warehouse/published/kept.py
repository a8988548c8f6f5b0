"""Which published versions are kept: the upkeep forgets what only older ones need."""

from northstar.base.errors import NorthstarError


def oldest_version(connection) -> int | None:
    """The oldest published version that can still be read, verified and put back; None while all of them can."""
    if connection.execute("select to_regclass('audit.maintenance') as t").fetchone()["t"] is None:
        return None
    return connection.execute("select max(oldest_version) as v from audit.maintenance").fetchone()["v"]


def require_kept(connection, version: int) -> None:
    """Raise NorthstarError for a version whose rows were pruned."""
    oldest = oldest_version(connection)
    if oldest is not None and version < oldest:
        raise NorthstarError(
            f"version {version} is not kept any more (keep_versions_days in operations.yml); the oldest that is, is {oldest}"
        )
