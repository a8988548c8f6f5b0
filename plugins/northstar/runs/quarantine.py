"""Quarantined rows: list them with their reasons, try them again after a fix, accept that they are missing, or set a landed row without a rate aside."""

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import orjson
import pyarrow as pa

from northstar.base.errors import NorthstarError
from northstar.base.progress import no_progress
from northstar.base.settings import Settings
from northstar.base.tables import table
from northstar.contract import entities
from northstar.extract.landing import set_aside as landing
from northstar.extract.landing.batch import Delivery, land_batch
from northstar.extract.landing.directory import SOURCE_PREFIX, land_directory
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.reasons import commonest_reasons
from northstar.extract.landing.settled import read_settled
from northstar.extract.sources.declared import FILES, open_source, read_sources
from northstar.extract.sources.files import FileStore, check_directory
from northstar.privacy.guard import Guard, landing_guard
from northstar.privacy.keys import SEAL_MARK, unseal
from northstar.privacy.personal import parse_document
from northstar.privacy.ring import home_key
from northstar.runs.turns import command_turn
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import Row, fetch_all_as, fetch_one
from northstar.warehouse.setup import bootstrap

# SQL: the rows that a replay tries; a row that was left out because of another row has no path
WAITING = "resolved_at is null and path is not null and (%(entity)s::text is null or entity = %(entity)s)"


class Rejected(TypedDict):
    """A rejected row as a list shows it."""

    id: int
    entity: str
    path: str | None
    line: int | None
    reasons: str
    accepted_by: str | None


class RejectedFile(TypedDict):
    """A file with rejected rows. rows: how many; newest: the highest quarantine_id among them."""

    source: str
    entity: str
    path: str
    rows: int
    newest: int


def list_rows(settings: Settings, entity: str | None = None, limit: int = 50) -> list[Rejected]:
    """The newest unresolved rows: number, entity, file, line and reasons."""
    with db.connect(settings, "loader") as connection:
        return fetch_all_as(Rejected, connection.execute(
            "select quarantine_id as id, entity, path, line, array_to_string(reasons, '; ') as reasons, accepted_by from quarantine.rows "
            "where resolved_at is null and (%(entity)s::text is null or entity = %(entity)s) order by 1 desc limit %(limit)s",
            {"entity": entity, "limit": limit},
        ))  # fmt: skip


def overview(settings: Settings, entity: str | None = None, limit: int = 50) -> str:
    """The rejected rows for people: how many, their reasons, and the newest rows."""
    rows = list_rows(settings, entity, limit)
    if not rows:
        return "no rows are in quarantine"
    with db.connect(settings, "loader") as connection:
        total = fetch_one(
            connection.execute(
                "select count(*) as n from quarantine.rows where resolved_at is null and (%(entity)s::text is null or entity = %(entity)s)",
                {"entity": entity},
            )
        )["n"]
    reasons = commonest_reasons(settings, entity, most=20)
    summary = table(
        [{"rows": f"{r['rows']:,}", "entity": r["entity"], "reason, with an example": r["reason"]} for r in reasons]
    )
    lines = [f"{total:,} {'row is' if total == 1 else 'rows are'} in quarantine:", summary, ""]
    if total > len(rows):
        lines.append(f"the newest {len(rows):,} of them; --limit shows more:")
    return "\n".join([*lines, table(rows)])


def show(settings: Settings, quarantine_id: int, with_personal: bool = False) -> Row:
    """One quarantined row with all its columns. with_personal: sealed values as they were delivered, for whoever has the key.

    Raises NorthstarError when there is no row with that number.
    """
    with db.connect(settings, "loader") as connection:
        row = connection.execute("select * from quarantine.rows where quarantine_id = %s", [quarantine_id]).fetchone()
    if row is None:
        raise NorthstarError(f"no row {quarantine_id} in quarantine; `northstar quarantine list` shows the rows")
    if with_personal:
        # this also finishes a rotation that was killed before the home took the new key
        key = home_key(settings)
        row["row"] = {name: unseal_value(value, key) for name, value in row["row"].items()}
    return row


def accept(settings: Settings, entity: str, because: str, by: str | None = None) -> str:
    """Let versions be published without an entity's rejected rows; returns a line that says how many rows that are.

    The acceptance is recorded with each row, and in the certificates of the versions without it. The rows stay and can be replayed.
    Raises NorthstarError for an unknown entity, and without a reason.
    """
    _require_entity(entity)
    if not because.strip():
        raise NorthstarError(
            "accepting rows as missing needs a reason: give it with --because; the certificates repeat it"
        )
    by = by or getpass.getuser()
    bootstrap(settings)
    with command_turn(settings, "quarantine accept") as number, db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, number)
        rows = connection.execute(
            "update quarantine.rows set accepted_at = clock_timestamp(), accepted_by = %s, accepted_because = %s "
            "where entity = %s and resolved_at is null and accepted_at is null",
            [by, because.strip(), entity],
        ).rowcount
    return f"{rows} rejected rows of {entity} are accepted as missing by {by}"


def set_aside(settings: Settings, entity: str, row_id: str, because: str, by: str | None = None) -> str:
    """Let versions be published without a landed row that has no rate, until there is one; returns a line that says so.

    Certificates name it, with who decided it and why. Raises NorthstarError without a reason, and as the landing's `set_aside` does.
    """
    if not because.strip():
        raise NorthstarError("setting a row aside needs a reason: give it with --because; the certificates repeat it")
    bootstrap(settings)
    with command_turn(settings, "quarantine set-aside") as number:
        return landing.set_aside(settings, number, entity, row_id, by or getpass.getuser(), because.strip())


def replay(settings: Settings, entity: str | None = None) -> str:
    """Try rejected rows again with today's mappings and contract; rows that pass land. Returns a line that says how many did.

    Files that still exist are read again as a whole: that gives the source's own rows, before any mapping. Rows of other sources, and of
    files that are gone, are tried as they were kept.
    Raises NorthstarError for an unknown entity, and while a run is writing.
    """
    if entity:
        _require_entity(entity)
    # the rows may be from an older release, whose warehouse has no table of keys
    bootstrap(settings)
    with command_turn(settings, "quarantine replay") as number:
        with db.connect(settings, "loader") as connection:
            # up to the newest row of each file: what is rejected while this runs is not tried again
            files = fetch_all_as(RejectedFile, connection.execute(
                "select source, entity, path, count(*) as rows, max(quarantine_id) as newest from quarantine.rows where "
                f"{WAITING} group by source, entity, path order by newest",
                {"entity": entity},
            ))  # fmt: skip
        for source in dict.fromkeys(f["source"] for f in files):
            _read_again(settings, source, [f for f in files if f["source"] == source], number)
        newest = max((f["newest"] for f in files), default=0)
        for name, source in dict.fromkeys((f["entity"], f["source"]) for f in files):
            _retry_rows(settings, source, name, newest, number)
        with db.connect(settings, "loader") as connection:
            waiting_rows = fetch_one(
                connection.execute(f"select count(*) as rows from quarantine.rows where {WAITING}", {"entity": entity})
            )["rows"]
    tried_rows = sum(f["rows"] for f in files)
    landed_rows = max(0, tried_rows - waiting_rows)
    return f"{landed_rows} of {tried_rows} rows landed; " + (
        "the next run publishes them" if landed_rows else "nothing changes with the next run"
    )


def _require_entity(name: str) -> None:
    if name not in entities():
        raise NorthstarError(f"no entity {name!r}; the contract has {', '.join(list(entities())[:6])}, ...")


def _read_again(settings: Settings, source: str, files: list[RejectedFile], turn: int) -> None:
    """Land the files with rejected rows once more, if the source is a directory of files and is still there."""
    store = _file_store(settings, source, files[-1])
    if store is None:
        return
    try:
        check_directory(store.path, store.storage)
    except NorthstarError:
        return
    paths: dict[str, set[str]] = {}
    for file in files:
        paths.setdefault(file["entity"], set()).add(file["path"])
    land_directory(settings, None, store.path, store.mapping, source, no_progress, store.storage, only=paths, turn=turn)


def _file_store(settings: Settings, source: str, file: RejectedFile) -> FileStore | None:
    """The file store of a source: the declared one, or the directory of the run that rejected a row of the file; None for other sources."""
    if source != FILES:
        declared = read_sources(settings).get(source)
        connector = open_source(settings, declared) if declared else None
        return connector if isinstance(connector, FileStore) else None
    with db.connect(settings, "transformer") as connection:
        run = connection.execute(
            "select r.source_dir, r.mapping from quarantine.rows as q join audit.landing_batches as b using (batch_id) "
            "join audit.runs as r using (run_id) where q.source = %s and q.entity = %s and q.path = %s order by q.quarantine_id desc limit 1",
            [source, file["entity"], file["path"]],
        ).fetchone()
    if run is None or run["source_dir"] is None:
        return None
    return FileStore(run["source_dir"], Path(run["mapping"]) if run["mapping"] else None)


def _retry_rows(settings: Settings, source: str, name: str, newest: int, turn: int) -> None:
    """Try an entity's quarantined rows, as they were kept, against today's contract. newest: the highest quarantine_id to try."""
    guard = landing_guard(settings)
    with db.connect(settings, "loader") as connection:
        lots = db.fetch_lots(
            connection,
            "select quarantine_id, row::text as row from quarantine.rows where source = %(source)s and quarantine_id <= %(newest)s "
            f"and {WAITING} order by 1",
            {"entity": name, "source": source, "newest": newest},
        )
        for lot in lots:
            _retry_lot(
                settings, source, name, [(row["quarantine_id"], json.loads(row["row"])) for row in lot], guard, turn
            )


def _retry_lot(
    settings: Settings, source: str, name: str, rows: list[tuple[int, Row]], guard: Guard, turn: int
) -> None:
    # the source's own columns are there to be looked at
    columns = list(dict.fromkeys(c for _, row in rows for c in row if not c.startswith(SOURCE_PREFIX)))
    arrays = [
        pa.array([_json_text(unseal_value(row.get(c), guard.key)) for _, row in rows], pa.string()) for c in columns
    ]
    ids = pa.array([number for number, _ in rows], pa.int64())
    batch = pa.RecordBatch.from_arrays([*arrays, ids], names=[*columns, "_line"])
    normalised_batch = normalise(entities()[name], batch, guard, is_replay=True, settled=read_settled(settings))
    if not normalised_batch.rows.num_rows:
        return

    def produce(delivery: Delivery) -> Iterator[pa.Table]:
        delivery.read = normalised_batch.rows.num_rows
        yield normalised_batch.rows

    land_batch(settings, entities()[name], source, None, produce, turn=turn)
    rejected_ids = {line for line, _, _ in normalised_batch.bad}
    landed_ids = [number for number, _ in rows if number not in rejected_ids]
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, turn)
        connection.execute(
            "update quarantine.rows set resolved_at = clock_timestamp(), resolution = 'replayed' where quarantine_id = any(%s)",
            [landed_ids],
        )


def unseal_value(value: object, key: str) -> object:
    """A quarantined value as it was delivered: values that this home sealed are opened, within JSON too; others are unchanged."""
    if isinstance(value, dict):
        return {name: unseal_value(within, key) for name, within in value.items()}
    if isinstance(value, list):
        return [unseal_value(within, key) for within in value]
    if not isinstance(value, str) or SEAL_MARK not in value:
        return value
    plain_text = unseal(value, key)
    document = parse_document(value) if plain_text is None else None
    if document is None:
        return value if plain_text is None else plain_text
    within = unseal_value(document, key)
    return value if within == document else orjson.dumps(within).decode()


def _json_text(value: object) -> str | None:
    # JSON text, because it also holds whole numbers beyond 64 bits
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
