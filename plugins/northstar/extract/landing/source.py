"""Land what the declared sources have: page by page, each batch with the state to go on from, in one transaction.

What a source gave before it failed stays landed, and the next run goes on from there. It does not keep the other sources from landing.
`audit.source_runs` says how each source of each run went.
"""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from northstar.base import exact_json
from northstar.base.errors import NorthstarError, PassingError
from northstar.base.escaping import make_visible
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.base.tables import table
from northstar.base.third_parties import resource_error
from northstar.connections.find import find_connection
from northstar.contract import Entity, entities
from northstar.extract.landing.batch import Delivery, Landed, land_batch
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.mapping import contract_decides
from northstar.extract.landing.normalise import BadRow, in_range, normalise
from northstar.extract.landing.profile import Profile
from northstar.extract.landing.settled import read_settled
from northstar.extract.sources.declared import (
    Connector,
    ContractRow,
    Page,
    ReadsLanded,
    Source,
    State,
    can_read_on,
    open_source,
    reading_digest,
)
from northstar.extract.sources.files import FileStore
from northstar.privacy.guard import Guard, landing_guard
from northstar.privacy.personal import redact
from northstar.warehouse import db
from northstar.warehouse.rows import Row, fetch_one

# a batch ends with the first page after so many rows, or so many seconds of reading: as much is read again after a kill
BATCH_ROWS, BATCH_SECONDS = 50_000, 60


@dataclass
class SourceResult:
    """What landing one source did; `error` is the one-line message of what failed, if anything."""

    source: str
    landed: Landed = field(default_factory=Landed)
    seconds: float = 0.0
    error: str | None = None
    # whether what failed may pass by itself, and how long its system asked to be left alone
    is_passing: bool = False
    wait_seconds: float | None = None


def land_source(
    settings: Settings,
    run_id: int | None,
    source: Source,
    progress: Progress = print,
    time_range: tuple[datetime, datetime] | None = None,
) -> SourceResult:
    """Land everything new of one source, entity by entity; never raises for what the source does wrong.

    time_range: read it from its beginning instead, land the rows in this half-open range, and do not change where its next reading starts.

    An entity that fails does not keep the source's others from landing; the result has the first failure.
    """
    started, result = time.monotonic(), SourceResult(source.name)
    with _recording_failure(settings, source, result, progress):
        connector = open_source(settings, source)
        if isinstance(connector, FileStore):
            _land_files(settings, run_id, source, connector, result, progress, time_range)
        else:
            for entity in entities().values():
                if entity.name in source.entities:
                    with _recording_failure(settings, source, result, progress):
                        landed = _land_entity(settings, run_id, source, connector, entity, result, time_range, progress)
                        progress(f"  {source.name}, {entity.name}: {landed.inserted:,} new, {landed.updated:,} replaced, "
                                 f"{landed.unchanged:,} repeated, {landed.quarantined:,} quarantined")  # fmt: skip
                        _reconcile(settings, run_id, source, connector, entity, progress)
    result.seconds = time.monotonic() - started
    _record(settings, run_id, source, result)
    return result


@contextlib.contextmanager
def _recording_failure(settings: Settings, source: Source, result: SourceResult, progress: Progress) -> Iterator[None]:
    """A context that notes any failure inside it: a system may answer in a shape that its connector does not expect.

    A system, or the library that speaks to it, may repeat a secret in its message; secrets are masked.
    """
    try:
        yield
    except Exception as exc:
        masked = _secret_masker(settings, source)
        # a system's message may be about people, so it is redacted; the system's own address has to stay readable
        error = redact(masked(str(exc)), with_ip_addresses=False)
        if not isinstance(exc, NorthstarError):
            # the prefix, since a source may have the name of a service; appended, since another entity may have failed before
            log = settings.logs / f"source_{result.source}.log"
            with log.open("a") as file:
                file.write(
                    f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {make_visible(redact(masked(traceback.format_exc()), with_ip_addresses=False))}\n"
                )
            exhausted = resource_error(exc)
            error = (
                str(exhausted)
                if exhausted
                else (
                    f"its connector failed, {type(exc).__name__}: {' '.join(error.split())[:200]}; an answer that it does not know? "
                    f"(its log: {log})"
                )
            )
        result.error = result.error or error
        # what Northstar can name and does not pass by itself needs a person; of others nobody knows
        result.is_passing = result.is_passing or isinstance(exc, PassingError) or not isinstance(exc, NorthstarError)
        if isinstance(exc, PassingError) and exc.wait_seconds is not None:
            result.wait_seconds = max(result.wait_seconds or 0, exc.wait_seconds)
        progress(f"  {result.source}: FAILED, {error}")


def _secret_masker(settings: Settings, source: Source) -> Callable[[str], str]:
    try:
        return find_connection(settings, source.connection).mask_secrets if source.connection else str
    except NorthstarError:
        return str


def _starting_state(settings: Settings, source: Source, entity: str, reading: str, progress: Progress) -> State | None:
    """The state from which reading goes on; None, for the beginning, when everything before was read in another way."""
    with db.connect(settings, "loader") as connection:
        stored_state = connection.execute(
            "select state, reading from audit.source_states where source = %s and entity = %s", [source.name, entity]
        ).fetchone()
    # an older release did not note how it read; that is taken to be the way of this release
    if stored_state is None or stored_state["reading"] is None or can_read_on(stored_state["reading"], reading):
        return stored_state["state"] if stored_state else None
    progress(f"  {source.name}, {entity}: read again from its beginning, since its options or its connector changed")
    return None


def source_states(settings: Settings, source: str) -> dict[str, State]:
    """{entity: state} of a source: where its next reading starts."""
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select entity, state from audit.source_states where source = %s", [source]
        ).fetchall()
    return {row["entity"]: row["state"] for row in rows}


def source_report(settings: Settings, declared: dict[str, Source]) -> list[Row]:
    """A row for each declared source: what it is, how its last run went, where its next one starts."""
    with db.connect(settings, "loader") as connection:
        last = {
            row["source"]: row
            for row in connection.execute(
                "select distinct on (source) * from audit.source_runs order by source, run_id desc"
            )
        }
    rows: list[Row] = []
    for source in declared.values():
        ran = last.get(source.name)
        rows.append({
            "source": source.name, "system": source.system, "entities": ", ".join(source.entities), "schedule": source.schedule,
            "required": "yes" if source.required else "no", "last run": f"{ran['finished_at']:%Y-%m-%d %H:%M}" if ran else "never",
            "": "" if ran is None else f"{ran['rows_landed']:,} rows" if ran["succeeded"] else f"FAILED, {ran['message']}",
        })  # fmt: skip
    return rows


def preview(settings: Settings, source: Source, entity_name: str, rows: int) -> str:
    """The first rows of an entity as they would land, and why the others would not; nothing is stored."""
    if entity_name not in source.entities:
        raise NorthstarError(f"source {source.name} gives {', '.join(source.entities)}, not {entity_name!r}")
    entity, guard = entities()[entity_name], Guard(settings.secret("pii_key"))
    connector = open_source(settings, source)
    if isinstance(connector, FileStore):
        raise NorthstarError(
            "files have no preview: read them in place, and see `northstar quarantine list` after a run"
        )
    settled = read_settled(settings)
    good: list[Row] = []
    bad: list[BadRow] = []
    for page in connector.read(entity_name, None):
        done = normalise(entity, raw_batch(entity, page.rows, source.application, 1), guard, settled=settled)
        good += [
            {k: v for k, v in row.items() if v is not None} for row in done.rows.slice(0, rows - len(good)).to_pylist()
        ]
        bad += done.bad[: rows - len(bad)]
        if len(good) >= rows:
            break
    names = list(dict.fromkeys(name for row in good for name in row))
    rows_text = table([{n: row.get(n) for n in names} for row in good]) if good else "no rows"
    return "\n".join([rows_text, *(f"to quarantine: {'; '.join(reasons)}" for _, reasons, _ in bad)])


def raw_batch(
    entity: Entity, rows: Sequence[ContractRow] | pa.RecordBatch, application: str | None, first_line: int
) -> pa.RecordBatch:
    """A page's rows as landing reads them: a column for each name, and `_line`, the row's ordinal in this reading."""
    batch = rows if isinstance(rows, pa.RecordBatch) else _batch(rows)
    if application and "application" in entity.columns and "application" not in batch.schema.names:
        batch = batch.append_column("application", pa.array([application] * batch.num_rows, pa.string()))
    return batch.append_column("_line", pa.array(range(first_line, first_line + batch.num_rows), pa.int64()))


def _batch(rows: Sequence[ContractRow]) -> pa.RecordBatch:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.RecordBatch.from_arrays(
        [pa.array([_text(r.get(n)) for r in rows], pa.string()) for n in names], names=names
    )


def _land_entity(
    settings: Settings,
    run_id: int | None,
    source: Source,
    connector: Connector,
    entity: Entity,
    result: SourceResult,
    time_range: tuple[datetime, datetime] | None,
    progress: Progress,
) -> Landed:
    reading = reading_digest(source, entity.name, contract_decides(entity))
    state = None if time_range else _starting_state(settings, source, entity.name, reading, progress)
    pages = _Pages(connector.read(entity.name, state))
    guard, total, line = landing_guard(settings), Landed(), 0
    settled = read_settled(settings)
    while not pages.is_done:

        def produce(delivery: Delivery, start: int = line) -> Iterator[pa.RecordBatch]:
            delivery.profile = Profile() if time_range is None else None
            for page in pages.next_lot(BATCH_ROWS, BATCH_SECONDS):
                if page.state is not None and not time_range:
                    delivery.state, delivery.reading = page.state, reading
                batch = raw_batch(entity, page.rows, source.application, start + delivery.read)
                done, rows_outside = in_range(entity, normalise(entity, batch, guard, settled=settled), time_range)
                if delivery.profile is not None:
                    delivery.profile.add(entity, done.rows, done.lines, source.name, lambda _: (source.name, None))
                delivery.read += batch.num_rows
                delivery.outside_range += rows_outside
                delivery.refused += done.refused
                delivery.erased += done.erased
                delivery.record_drift(entity, batch, source.name)
                for number, reasons, row in done.bad:
                    delivery.rejects.add(source.name, number, reasons, row)
                if done.rows.num_rows:
                    yield done.rows

        landed = land_batch(
            settings, entity, source.name, run_id, produce, reads_landed=isinstance(connector, ReadsLanded)
        )
        total += landed
        result.landed += landed
        line += landed.read
    if pages.error:
        raise pages.error
    return total


def _land_files(
    settings: Settings,
    run_id: int | None,
    source: Source,
    store: FileStore,
    result: SourceResult,
    progress: Progress,
    time_range: tuple[datetime, datetime] | None,
) -> None:
    """Land a store's files. A store has no state: audit.landed_files says which of its files were read."""
    results = land_directory(
        settings, run_id, store.path, store.mapping, source.name, progress, store.storage, time_range
    )
    for entity in results:
        result.landed += entity


class _Pages:
    """The pages of one reading, handed out in lots that end where reading can go on from.

    `error` is the failure that ended the reading early. The pages before it are good, so a system that fails each hour still gets on.
    """

    def __init__(self, pages: Iterator[Page]):
        self._pages, self.is_done = pages, False
        self.error: Exception | None = None

    def next_lot(self, rows: int, seconds: float) -> Iterator[Page]:
        count, end = 0, time.monotonic() + seconds
        while (page := self._next()) is not None:
            count += page.rows.num_rows if isinstance(page.rows, pa.RecordBatch) else len(page.rows)
            if count or page.state is not None:
                yield page
            if page.state is not None and (count >= rows or time.monotonic() >= end):
                return
        self.is_done = True

    def _next(self) -> Page | None:
        try:
            return next(self._pages, None)
        except Exception as exc:
            self.error = exc
            return None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        text: str = value.isoformat()
        return text
    return str(value) if isinstance(value, int) else exact_json.dumps(value)


def _reconcile(
    settings: Settings, run_id: int | None, source: Source, connector: Connector, entity: Entity, progress: Progress
) -> None:
    """Store the source's reconciliation: what it says that it has, against what of it has landed."""
    if run_id is None:
        return
    if not hasattr(connector, "totals"):
        progress(f"  {source.name}, {entity.name}: not reconciled, the connector gives no totals")
        return
    try:
        totals = connector.totals(entity.name, source_states(settings, source.name).get(entity.name))
    except Exception as exc:
        # the rows have landed, and stay when the key may not read the totals or the system cannot give them now
        why = _secret_masker(settings, source)(
            str(exc) if isinstance(exc, NorthstarError) else f"{type(exc).__name__}: {exc}"
        )
        progress(
            f"  {source.name}, {entity.name}: not reconciled, {redact(' '.join(why.split())[:200], with_ip_addresses=False)}"
        )
        return
    with db.connect(settings, "loader") as connection:
        for measure, (source_total, expression) in totals.items():
            landed = fetch_one(
                connection.execute(
                    f"select {expression} as total from staging.{entity.name} where _batch_id in "
                    "(select batch_id from audit.landing_batches where source = %s and entity = %s)",
                    [source.name, entity.name],
                )
            )["total"]
            connection.execute(
                "insert into audit.reconciliations (run_id, source, entity, measure, source_total, landed_total, difference) "
                "values (%(run)s, %(source)s, %(entity)s, %(measure)s, %(source_total)s, %(landed)s, "
                "coalesce(%(source_total)s::numeric, 0) - coalesce(%(landed)s::numeric, 0))",
                {
                    "run": run_id,
                    "source": source.name,
                    "entity": entity.name,
                    "measure": measure,
                    "source_total": source_total,
                    "landed": landed,
                },
            )


def _record(settings: Settings, run_id: int | None, source: Source, result: SourceResult) -> None:
    if run_id is None:
        return
    landed = result.landed
    with db.connect(settings, "loader") as connection:
        connection.execute(
            "insert into audit.source_runs (run_id, source, system, is_required, succeeded, message, rows_read, rows_landed, "
            "rows_quarantined, seconds) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (run_id, source) do update set "
            "succeeded = excluded.succeeded, message = excluded.message, rows_read = source_runs.rows_read + excluded.rows_read, "
            "rows_landed = source_runs.rows_landed + excluded.rows_landed, seconds = source_runs.seconds + excluded.seconds, "
            "rows_quarantined = source_runs.rows_quarantined + excluded.rows_quarantined, finished_at = clock_timestamp()",
            [run_id, source.name, source.system, source.required, result.error is None, result.error, landed.read,
             landed.inserted + landed.updated, landed.quarantined, round(result.seconds, 2)],
        )  # fmt: skip
