"""`northstar backfill`: read a range of the past again, rebuild exactly its periods, publish; a journal entry with its reason.

An hourly run lands what is new according to each source's state. It does not see what a source changed behind that state: a row without a
new cursor, a file that was lost, a table that was repaired. A backfill reads such a range again. It publishes as of the newest version, so it
never takes readers back in time. (To see what was known at a past moment, use `northstar sql --version` or `run --as-of`.)
"""

from datetime import UTC, datetime

from northstar.audit.worker import Worker
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.extract.sources.declared import FILES, read_sources
from northstar.extract.stage import extract_again
from northstar.runs import job
from northstar.runs.lifecycle import last_as_of
from northstar.warehouse import db
from northstar.warehouse.rows import fetch_one


def backfill(
    settings: Settings, start: datetime, end: datetime, reason: str, by: str, sources: list[str] | None = None,
    source_dir: str | None = None, mapping: str | None = None, with_reading: bool = True, progress: Progress = print, worker: Worker | None = None, wait: bool = False,
) -> int:  # fmt: skip
    """Restate the half-open range [start, end); returns the published version.

    sources: the declared sources to read again from their beginning (default: all), in addition to source_dir, if it is given. Of their
    rows only those whose own time lies in the range land. with_reading: False builds the periods again from what has landed. wait: wait for a run that is
    under way instead of refusing.
    Raises NorthstarError when there is nothing to restate, a source cannot be read, or the run fails. The journal records it either way.
    """
    if start >= end:
        raise NorthstarError(
            f"the range is empty: --from {start:%Y-%m-%dT%H:%M:%SZ} must be before --to {end:%Y-%m-%dT%H:%M:%SZ}"
        )
    if start > datetime.now(UTC):
        raise NorthstarError(f"{start:%Y-%m-%dT%H:%M:%SZ} is in the future: nothing has been published for it")
    if not reason.strip():
        raise NorthstarError("a backfill needs a --reason: the journal records it")
    as_of = last_as_of(settings)
    if as_of is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    names = _source_names(settings, sources, source_dir) if with_reading else []
    with db.connect(settings, "transformer") as connection:
        number = fetch_one(
            connection.execute(
                "insert into audit.backfills (from_at, to_at, reason, asked_by, sources) values (%s, %s, %s, %s, %s) returning backfill_id as id",
                [start, end, reason, by, names],
            )
        )["id"]
    row_counts: dict[str, int | None] = {"read": None, "changed": None}
    version: int | None = None
    error: str | None = None

    def extract(settings: Settings, run_id: int, progress: Progress) -> None:
        _update_journal(settings, number, run_id=run_id)
        rows = extract_again(settings, run_id, names, (start, end), progress)
        row_counts.update(read=rows["read"], changed=rows["changed"])

    try:
        version = job.run(
            settings,
            "hourly",
            as_of,
            source_dir,
            progress,
            mapping,
            worker,
            extract=extract,
            restate=(start, end),
            wait=wait,
        )
        return version
    except BaseException as exc:
        error = str(exc) or type(exc).__name__
        raise
    finally:
        _update_journal(
            settings, number, finished_at=datetime.now(UTC), published_version=version, message=error,
            rows_read=row_counts["read"], rows_changed=row_counts["changed"],
        )  # fmt: skip


def _source_names(settings: Settings, requested: list[str] | None, source_dir: str | None) -> list[str]:
    declared = read_sources(settings)
    unknown = set(requested or ()) - set(declared)
    if unknown:
        raise NorthstarError(f"no source {sorted(unknown)[0]!r}; the declared ones are {', '.join(declared) or 'none'}")
    names = list(requested or ([] if source_dir else declared)) + ([FILES] if source_dir else [])
    if not names:
        raise NorthstarError("there is nothing to read again: give --source-dir, declare sources, or use --no-reading")
    return names


def _update_journal(settings: Settings, number: int, **values: object) -> None:
    with db.connect(settings, "transformer") as connection:
        columns = ", ".join(f"{name} = %({name})s" for name in values)
        connection.execute(
            f"update audit.backfills set {columns} where backfill_id = %(number)s", {**values, "number": number}
        )
