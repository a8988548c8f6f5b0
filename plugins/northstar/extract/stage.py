"""Stage 1 as the DAG and the command line call it: land each source that is due, then decide whether the run can go on."""

from datetime import datetime
from typing import TypedDict

from northstar.base.errors import NorthstarError, SourceFailed, SourceUnavailable
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.contract import entities
from northstar.extract.landing import source as landing
from northstar.extract.landing.mapped_values import follow_settled
from northstar.extract.landing.reasons import commonest_reasons, describe
from northstar.extract.landing.set_aside import return_rated
from northstar.extract.sources.declared import FILES, Source, read_sources
from northstar.privacy.details import forget_details
from northstar.warehouse import db
from northstar.warehouse.rows import Run, as_shape, fetch_one
from northstar.warehouse.stages import run_stage


class RereadCounts(TypedDict):
    """How many rows were read, and how many of them were new or replaced a landed row."""

    read: int
    changed: int


def extract(settings: Settings, run_id: int, progress: Progress = print) -> None:
    """Land what is new in all of the run's sources. Raises NorthstarError when one that is required failed."""
    with run_stage(settings, run_id, "extract") as run:
        for name in _due_sources(settings, run):
            _land_by_name(settings, run, name, progress)
        _finish(settings, run, progress)


def extract_again(
    settings: Settings, run_id: int, names: list[str], time_range: tuple[datetime, datetime], progress: Progress = print
) -> RereadCounts:
    """Read sources from their beginning and land the rows in the range; returns {'read': rows, 'changed': rows}.

    Where their next reading starts stays as it is. Raises NorthstarError when one of them failed.
    """
    counts: RereadCounts = {"read": 0, "changed": 0}
    with run_stage(settings, run_id, "extract") as run:
        for name in names:
            result = _land_by_name(settings, run, name, progress, time_range)
            if result.error:
                raise SourceFailed(name, f"source {name}: {result.error}")
            counts["read"] += result.landed.read
            counts["changed"] += result.landed.inserted + result.landed.updated
        _require_rows(settings, run["as_of"])
        return_rated(settings, run_id, progress)
        follow_settled(settings, run_id, progress)
        record_built_batch(settings, run_id)
    return counts


def due_sources(settings: Settings, run_id: int) -> list[str]:
    """The names of the sources that a run reads: `files` for its source directory, and the declared ones that are due.

    Raises NorthstarError when there is none.
    """
    with db.connect(settings, "transformer") as connection:
        run = fetch_one(connection.execute("select * from audit.runs where run_id = %s", [run_id]))
        return _due_sources(settings, as_shape(Run, run))


def land_source(settings: Settings, run_id: int, name: str, progress: Progress = print) -> None:
    """Land one of a run's sources, as a task of its own.

    Raises when it failed, required or not: SourceUnavailable where that may pass by itself, else SourceFailed.
    """
    with run_stage(settings, run_id, "extract") as run:
        result = _land_by_name(settings, run, name, progress)
    if result.error and result.is_passing:
        raise SourceUnavailable(name, result.error, result.wait_seconds)
    if result.error:
        raise SourceFailed(name, result.error)


def finish_extract(settings: Settings, run_id: int, progress: Progress = print) -> None:
    """Check, after all sources, that the run can go on.

    Raises NorthstarError when a required source failed, or when there is nothing to build from.
    """
    with run_stage(settings, run_id, "extract") as run:
        _finish(settings, run, progress)


def _due_sources(settings: Settings, run: Run) -> list[str]:
    declared = [source.name for source in read_sources(settings).values() if source.is_due(run["mode"])]
    due = declared + ([FILES] if run["source_dir"] else [])
    if not due:
        raise NorthstarError(
            f"no source: give a directory with --source-dir, or declare sources in {settings.config}/sources.yml"
        )
    return due


def _land_by_name(
    settings: Settings, run: Run, name: str, progress: Progress, time_range: tuple[datetime, datetime] | None = None
) -> landing.SourceResult:
    """Land one source of a run. The run's directory is a source like any other."""
    if name == FILES:
        source = Source(FILES, FILES, required=True, options={"path": run["source_dir"], "mapping": run["mapping"]})
    else:
        source = read_sources(settings)[name]
    return landing.land_source(settings, run["run_id"], source, progress, time_range)


def _finish(settings: Settings, run: Run, progress: Progress) -> None:
    declared = read_sources(settings)
    with db.connect(settings, "loader") as connection:
        source_runs = {
            row["source"]: row
            for row in connection.execute("select * from audit.source_runs where run_id = %s", [run["run_id"]])
        }
    for name in _due_sources(settings, run):
        is_required = name == FILES or declared[name].required
        if is_required and not (name in source_runs and source_runs[name]["succeeded"]):
            reason = source_runs[name]["message"] if name in source_runs else "it was not read"
            raise SourceFailed(name, reason if name == FILES else f"source {name}, which is required: {reason}")
    _require_rows(settings, run["as_of"])
    return_rated(settings, run["run_id"], progress)
    follow_settled(settings, run["run_id"], progress)
    if run["is_full"]:
        # nothing would show an hourly run what was emptied, so only full runs do this
        forget_details(settings, run["run_id"], run["as_of"])
    record_built_batch(settings, run["run_id"])


def record_built_batch(settings: Settings, run_id: int) -> None:
    """Record the newest landed batch, up to which the run builds."""
    with db.connect(settings, "transformer") as connection:
        connection.execute(
            "update audit.runs set built_batch_id = (select coalesce(max(batch_id), 0) from audit.landing_batches) where run_id = %s",
            [run_id],
        )


def _require_rows(settings: Settings, as_of: datetime) -> None:
    before = [f"exists (select 1 from staging.{e.name} where {e.own_time} < %(as_of)s)" for e in entities().values()]
    any_row = [f"exists (select 1 from staging.{e.name})" for e in entities().values()]
    with db.connect(settings, "loader") as connection:
        answer = fetch_one(
            connection.execute(
                f"select {' or '.join(before)} as before, {' or '.join(any_row)} as any", {"as_of": as_of}
            )
        )
    if not answer["before"]:
        if not answer["any"] and (reasons := commonest_reasons(settings)):
            raise NorthstarError(
                f"every row that was read is in quarantine: {describe(reasons)}. Correct the source or the mapping; "
                "`northstar quarantine list` shows the rows"
            )
        raise NorthstarError(
            f"no landed row is older than as-of {as_of:%Y-%m-%dT%H:%M:%SZ}; give a later --as-of or another --source-dir"
        )
