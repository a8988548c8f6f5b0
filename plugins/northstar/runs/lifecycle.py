"""A run's beginning and end: opened with its `as_of` and its turn, closed as published or failed.

In between, its state is in `audit.runs` and `audit.writer_lease`, so each stage may run in a process of its own, on a machine of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TypedDict

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress, no_progress
from northstar.base.settings import Settings, require_days_of_utc
from northstar.build.code_version import code_version
from northstar.build.own_seeds import check_own_seeds
from northstar.runs.turns import give_turn_back, take_turn
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one
from northstar.warehouse.setup import bootstrap

MODES = ("nightly", "hourly")


def open_run(
    settings: Settings,
    mode: str,
    as_of: datetime,
    source_dir: str | None = None,
    trigger: str = "cli",
    wait: bool = False,
    mapping: str | None = None,
    restate: tuple[datetime, datetime] | None = None,
    is_own: bool | None = None,
    rebuilds: list[str] | None = None,
    progress: Progress = no_progress,
) -> int:
    """Start a run and take the writer's turn; returns the run_id.

    as_of: logical time, timezone-aware, exclusive. wait: wait for a run that is under way instead of refusing. restate: a half-open
    range whose periods are built again whether or not a row in it has changed. is_own: whether the run continues and ends in this
    process (default: when no DAG triggered it). rebuilds: models to build from the landed rows with everything made from them, and nothing else. progress: is told whom it waits for.
    Raises NorthstarError for a bad mode or time, for a funnels.csv or targets.csv that cannot be used, for a time zone that Spark cannot build in, or when another run or command has the turn.
    """
    if mode not in MODES:
        raise NorthstarError(f"unknown mode {mode!r}; use {' or '.join(MODES)}")
    if as_of > datetime.now(UTC):
        raise NorthstarError(f"as-of {as_of:%Y-%m-%dT%H:%M:%SZ} is in the future; give a time that has passed")
    check_own_seeds(settings)
    require_days_of_utc(settings)
    bootstrap(settings)
    run_id = take_turn(settings, trigger, trigger == "cli" if is_own is None else is_own, wait, progress)
    with _give_back_on_error(settings, run_id), db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute(
            "update audit.runs set state = 'failed', finished_at = clock_timestamp(), "
            "message = coalesce(message, 'the process ended without an error message') where state = 'running'"
        )
        context = _run_context(connection, settings, mode, as_of)
        if rebuilds and context["is_full"]:
            # the others are not as they were published: everything has to be built
            rebuilds = None
        context["is_full"] = context["is_full"] or bool(rebuilds)
        connection.execute(
            "insert into audit.runs (run_id, mode, as_of, is_full, trigger, source_dir, code_version, mapping, rebuilds) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [run_id, mode, as_of, context["is_full"], trigger, source_dir, code_version(settings), mapping, rebuilds],
        )
        connection.execute(
            "insert into core.run_context values (true, %(run_id)s, %(mode)s, %(as_of)s, %(previous_as_of)s, "
            "%(since_batch_id)s, %(is_full)s, %(rules)s, %(restate_from)s, %(restate_to)s) on conflict (only_one) do update set run_id = excluded.run_id, "
            "mode = excluded.mode, as_of = excluded.as_of, previous_as_of = excluded.previous_as_of, "
            "since_batch_id = excluded.since_batch_id, is_full = excluded.is_full, rules = excluded.rules, "
            "restate_from = excluded.restate_from, restate_to = excluded.restate_to",
            {
                "run_id": run_id,
                "mode": mode,
                "as_of": as_of,
                "rules": settings.rules.model_dump_json(),
                **context,
                "restate_from": restate[0] if restate else None,
                "restate_to": restate[1] if restate else None,
            },
        )
        connection.execute(
            sql.SQL(
                "create or replace function core.as_of() returns timestamptz language sql immutable parallel safe "
                "return {}::timestamptz"
            ).format(as_of.isoformat())
        )
    return run_id


def last_as_of(settings: Settings) -> datetime | None:
    """The as_of of the newest published run, or None."""
    bootstrap(settings)
    with db.connect(settings, "transformer") as connection:
        row = fetch_one(
            connection.execute("select max(as_of) as t from audit.runs where published_version is not null")
        )
    as_of: datetime | None = row["t"]
    return as_of


def require_published(settings: Settings, run_id: int) -> None:
    """Raise NorthstarError with the run's own message unless it published a version."""
    with db.connect(settings, "transformer") as connection:
        run = fetch_one(connection.execute("select * from audit.runs where run_id = %s", [run_id]))
    if run["published_version"] is None:
        raise NorthstarError(run["message"] or f"run {run_id} published nothing")


def close_trigger(settings: Settings, trigger: str) -> None:
    """End the turn of a trigger whose task died after it took the turn and before it opened the run."""
    with db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute("delete from audit.writer_lease where holder = %s", [trigger])


def close_run(settings: Settings, run_id: int, error: str | None = None) -> None:
    """End a run: its state, its message, and its turn."""
    try:
        with db.connect(settings, "transformer", autocommit=True, is_awaited=True) as connection:
            connection.execute(
                "update audit.runs set finished_at = clock_timestamp(), message = coalesce(%s::text, message), "
                "state = case when published_version is not null then 'published' else 'failed' end where run_id = %s",
                [error, run_id],
            )
    finally:
        give_turn_back(settings, run_id)


@contextmanager
def close_afterwards(settings: Settings, run_id: int) -> Iterator[None]:
    """Close the run when the context ends: as published, or as failed with the error that was raised inside."""
    error = None
    try:
        yield
    except BaseException as exc:
        error = str(exc) or type(exc).__name__
        raise
    finally:
        try:
            with db.translate_driver_errors(settings):
                close_run(settings, run_id, error)
        except NorthstarError:
            if error is None:
                raise


@contextmanager
def _give_back_on_error(settings: Settings, run_id: int) -> Iterator[None]:
    """Give the turn back when an error is raised inside: a run that could not be opened must not keep it."""
    try:
        yield
    except BaseException:
        with suppress(NorthstarError):
            give_turn_back(settings, run_id)
        raise


class _RunContext(TypedDict):
    """The columns of core.run_context that depend on the last publication. is_full: whether everything has to be rebuilt."""

    previous_as_of: datetime | None
    since_batch_id: int | None
    is_full: bool


def _run_context(connection: Connection, settings: Settings, mode: str, as_of: datetime) -> _RunContext:
    """Where the last publication ended: from when on rows are new, and whether everything has to be rebuilt."""
    last_run = connection.execute(
        "select run_id, as_of, code_version, built_batch_id from audit.runs where published_version is not null "
        "order by published_version desc limit 1"
    ).fetchone()
    later_runs = fetch_one(connection.execute(
        "select coalesce(bool_or(is_full), false) as was_full, max(as_of) as latest from audit.runs where run_id > %s",
        [last_run["run_id"] if last_run else 0],
    ))  # fmt: skip
    is_full = (
        mode == "nightly"
        or last_run is None
        or as_of < last_run["as_of"]
        or last_run["code_version"] != code_version(settings)
        or later_runs["was_full"]
        or (later_runs["latest"] is not None and later_runs["latest"] > as_of)
    )
    return {
        "previous_as_of": last_run["as_of"] if last_run else None,
        "since_batch_id": last_run["built_batch_id"] if last_run else 0,
        "is_full": is_full,
    }
