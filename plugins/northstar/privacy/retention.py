"""Retention periods: what the home keeps no longer than `retention_days` of northstar.yml says, removed by the nightly maintenance.

    retention_days: {quarantine: 90, replaced: 400, history: 400, runs: 400, reports: 400, notices: 400}

Nothing that a published number stands on is removed, so no number changes. Older versions can then no longer be read, put back or made
again, and who tries is told so (`audit.kept_since`). Landed entities have no period: a full build makes every number anew from them.
"""

from collections.abc import Callable

from psycopg import sql

from northstar import db
from northstar.errors import NorthstarError
from northstar.settings import Settings

RETAINED = ("quarantine", "replaced", "history", "runs", "reports", "notices")


def apply_retention(settings: Settings, progress=print) -> dict[str, int]:
    """Remove what is older than its period; returns {what: rows removed}. Does nothing where no period is set.

    Called by the nightly maintenance, while no run is under way or by the one that holds the lease.
    """
    removed = {}
    for what, days in settings.rules["retention_days"].items():
        removed[what] = STEPS[what](settings, days)
        if removed[what]:
            progress(f"  retention: {removed[what]:,} rows of {what} were older than {days} days")
    return removed


def check_periods(given: object, where: object) -> None:
    """Raise NorthstarError unless `retention_days` is {what: whole days}."""
    if not isinstance(given, dict):
        raise NorthstarError(f"{where}, retention_days: write it like {{quarantine: 90}}")
    for what, days in given.items():
        if what not in RETAINED:
            raise NorthstarError(
                f"{where}, retention_days: {what!r} has no period; those that have are {', '.join(RETAINED)} "
                "(docs/privacy.md says why landed entities have none)"
            )
        if not isinstance(days, int) or isinstance(days, bool) or days < 1:
            raise NorthstarError(f"{where}, retention_days, {what}: give whole days, 1 or more")


def forgotten(connection, version: int) -> str | None:
    """Why a version can be read no more; None where nothing of it was removed."""
    # a warehouse that an older release left has no such table until its next run
    if connection.execute("select to_regclass('audit.kept_since') as t").fetchone()["t"] is None:
        return None
    kept = connection.execute("select max(version) as version from audit.kept_since").fetchone()["version"]
    if kept is None or version >= kept:
        return None
    return f"version {version} is older than the retention periods of this home keep; the oldest that can be read is {kept}"


def _delete(settings: Settings, role: str, query: str, days: int) -> int:
    with db.connect(settings, role) as connection:
        return connection.execute(query, {"days": days}).rowcount


def _quarantine(settings: Settings, days: int) -> int:
    return _delete(
        settings,
        "loader",
        "delete from quarantine.rows where quarantined_at < now() - make_interval(days => %(days)s)",
        days,
    )


def _replaced(settings: Settings, days: int) -> int:
    kept = _version_at(settings, days)
    if kept is None:
        return 0
    with db.connect(settings, "publisher") as connection:
        # what that version and the later ones were made from stays
        batch = connection.execute(
            "select built_batch_id as id from marts.certificates where published_version = %s", [kept]
        ).fetchone()
    with db.connect(settings, "loader") as connection:
        removed = connection.execute(
            "delete from staging._replaced where batch_id <= %s", [batch["id"] if batch else 0]
        ).rowcount
    if removed:
        _keep_since(settings, "replaced", days)
    return removed


def _history(settings: Settings, days: int) -> int:
    kept = _version_at(settings, days)
    if kept is None:
        return 0
    removed = 0
    with db.connect(settings, "publisher") as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'marts_history'").fetchall()
        for row in tables:
            query = sql.SQL("delete from marts_history.{} where _to_version <= {}").format(
                sql.Identifier(row["tablename"]), sql.Literal(kept)
            )
            removed += connection.execute(query).rowcount
    if removed:
        _keep_since(settings, "history", days)
    return removed


def _version_at(settings: Settings, days: int) -> int | None:
    """The version that was up when the period began: the oldest that is kept whole."""
    with db.connect(settings, "publisher") as connection:
        if connection.execute("select to_regclass('marts.publications') as t").fetchone()["t"] is None:
            return None
        return connection.execute(
            "select max(published_version) as v from marts.publications where published_at < now() - make_interval(days => %s)",
            [days],
        ).fetchone()["v"]


def _keep_since(settings: Settings, what: str, days: int) -> None:
    version = _version_at(settings, days)
    with db.connect(settings, "publisher") as connection:
        connection.execute(
            "insert into audit.kept_since (what, version) values (%s, %s) on conflict (what) do update set "
            "version = greatest(kept_since.version, excluded.version), changed_at = clock_timestamp()", [what, version or 0],
        )  # fmt: skip


def _runs(settings: Settings, days: int) -> int:
    """What the audit noted of runs; the run of each version stays, and so does its certificate."""
    old = "select run_id from audit.runs where started_at < now() - make_interval(days => %(days)s) and published_version is null"
    for table in ("checks", "model_runs", "reconciliations", "source_runs"):
        _delete(
            settings, "publisher", f"delete from audit.{table} where run_id in (select run_id from audit.runs where started_at < now() "
            "- make_interval(days => %(days)s))", days,
        )  # fmt: skip
    return _delete(settings, "publisher", f"delete from audit.runs where run_id in ({old})", days)


def _reports(settings: Settings, days: int) -> int:
    return _delete(
        settings, "publisher", "delete from audit.reports where made_at < now() - make_interval(days => %(days)s)", days
    )


def _notices(settings: Settings, days: int) -> int:
    return _delete(
        settings,
        "publisher",
        "delete from audit.notices where closed_at < now() - make_interval(days => %(days)s)",
        days,
    )


STEPS: dict[str, Callable[[Settings, int], int]] = {
    "quarantine": _quarantine, "replaced": _replaced, "history": _history, "runs": _runs, "reports": _reports, "notices": _notices,
}  # fmt: skip
