"""Land a directory: find what is new for each entity, read it, hand it to the merge, isolate the files that fail."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa

from northstar.base.errors import FileFailed, NorthstarError
from northstar.base.escaping import visible
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.extract.landing.batch import Delivery, Landed, land_batch
from northstar.extract.landing.mapping import MAPPING_FILE, Input, contract_inputs, read_mapping
from northstar.extract.landing.normalise import BadRow, in_range, normalise
from northstar.extract.landing.personal_values import sealed_row
from northstar.extract.sources import files
from northstar.extract.sources.files import (
    Reading,
    SourceFile,
    Storage,
    check_directory,
    kind_of,
    list_files,
    with_content,
    without_half_line,
)
from northstar.privacy.guard import Guard, landing_guard
from northstar.privacy.personal import redacted
from northstar.warehouse import db

GROUP_BYTES = 512 << 20
GROUP_FILES = 500
# the path is part of a key, and an index entry of Postgres holds 2,704 bytes
LONGEST_PATH = 2_000
# characters, which may have four bytes each
LONGEST_UNREAD = 500
# a file, and the input that it is read as
Work = tuple[Input, SourceFile]


@dataclass(kw_only=True)
class EntityResult(Landed):
    """What landing one entity of a source did; `error` is the one-line message of what failed, if anything."""

    source: str
    entity: str
    # files whose last line has no end yet
    held: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None


def land_directory(
    settings: Settings,
    run_id: int | None,
    source_dir: str,
    mapping: Path | None = None,
    source: str = "files",
    progress: Progress = print,
    storage: Storage | None = None,
    within: tuple[datetime, datetime] | None = None,
    only: dict[str, set[str]] | None = None,
    turn: int | None = None,
) -> list[EntityResult]:
    """Land every new or changed file below `source_dir`; returns a result for each entity that has any files.

    A file counts as changed, too, when it would be read in another way than it was: with another mapping, or for another contract.

    mapping: says how a foreign layout becomes contract entities. A `_mapping.yml` in the directory is followed where the home's
    `mapping_in_source` says so, and refused otherwise. storage: what fsspec needs besides the address
    (northstar.extract.sources.files.storage_options). within: read all files again, land the rows in this half-open range, and do not
    change which files count as read. only: read these files ({entity: their paths as in audit.landed_files}) again, whether or not
    anything changed, and no others. turn: as for land_batch.

    One failing file or entity does not keep the others from landing; a NorthstarError names the failed ones afterwards.
    """
    check_directory(source_dir, storage)
    inputs = _inputs(settings, source_dir, mapping, storage)
    guard, results, has_files = landing_guard(settings), [], False
    unread_files: list[tuple[str, str]] = []
    landed_files = {} if within or only else _known(settings, source)
    for entity in entities().values():
        own_inputs = [i for i in inputs if i.entity == entity.name]
        started = time.monotonic()
        result = EntityResult(source=source, entity=entity.name)
        try:
            passed_over: list[str] = []
            work = [
                (i, f)
                for i in own_inputs
                for pattern in i.patterns
                for f in list_files(source_dir, pattern, storage, passed_over if i.spec is None else None)
            ]
            unread_files += [(entity.name, path) for path in passed_over]
            has_files = has_files or bool(work)
            if not work:
                continue
            if only is not None:
                work = [(i, f) for i, f in work if _state_path(i, f) in only.get(entity.name, ())]
            new_work = [
                (i, f) for i, f in work if not _is_known(landed_files.get((entity.name, _state_path(i, f))), i, f)
            ]
            total = Landed()
            for group in _groups(new_work):
                total += _land_group(settings, run_id, source, entity, group, guard, result, within, turn)
            result += total
        except NorthstarError as exc:
            result.error = redacted(str(exc))
        result.seconds = time.monotonic() - started
        results.append(result)
        if result.files or result.error:
            progress(_line(result))
    if only is None and within is None:
        _note_unread(settings, source, unread_files, progress)
    if not has_files and not any(r.error for r in results):
        raise NorthstarError(
            f"{source_dir} holds no files to land: it needs a folder for each entity, such as {source_dir}/accounts/*.csv"
        )
    failed = [r for r in results if r.error]
    if failed:
        more = f" (and {len(failed) - 1} more entities failed)" if len(failed) > 1 else ""
        raise NorthstarError(f"{failed[0].entity}: {failed[0].error}{more}")
    return results


def _inputs(settings: Settings, source_dir: str, mapping: Path | None, storage: Storage | None) -> list[Input]:
    if mapping is None and not _has_mapping(source_dir, storage):
        return contract_inputs()
    if mapping is None and not settings.operations.mapping_in_source:
        raise NorthstarError(
            f"{source_dir}/{MAPPING_FILE} is not followed, since who writes the data would decide what it becomes: look at it and "
            f"give it with --mapping (or `mapping:` in sources.yml), or say `mapping_in_source: true` in {settings.config}/operations.yml"
        )
    return read_mapping(source_dir, mapping, storage)


def _has_mapping(source_dir: str, storage: Storage | None) -> bool:
    system, root = fsspec.core.url_to_fs(source_dir, **(storage or {}))
    is_there: bool = system.exists(f"{root.rstrip('/')}/{MAPPING_FILE}")
    return is_there


def _note_unread(settings: Settings, source: str, found: list[tuple[str, str]], progress: Progress) -> None:
    """Keep which files in entities' folders are not read, and tell of the new ones."""
    with db.connect(settings, "loader") as connection:
        known_rows = connection.execute("select entity, path from audit.unread_files where source = %s", [source])
        known = {(row["entity"], row["path"]) for row in known_rows}
        kept = {(entity, visible(redacted(path))[:LONGEST_UNREAD]) for entity, path in found}
        for entity, path in sorted(known - kept):
            connection.execute(
                "delete from audit.unread_files where source = %s and entity = %s and path = %s", [source, entity, path]
            )
        for entity, path in sorted(kept - known):
            connection.execute(
                "insert into audit.unread_files (source, entity, path) values (%s, %s, %s)", [source, entity, path]
            )
            progress(f"  {entity}: {path} is not read; deliver csv, tsv, jsonl, ndjson, json or parquet")


def _known(settings: Settings, source: str) -> dict[tuple[str, str], tuple[str, str | None]]:
    """The files that have landed: {(entity, path): (fingerprint, how it was read)}."""
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select entity, path, fingerprint, reading from audit.landed_files where source = %s", [source]
        ).fetchall()
    return {(row["entity"], row["path"]): (row["fingerprint"], row["reading"]) for row in rows}


def _is_known(landed: tuple[str, str | None] | None, given: Input, file: SourceFile) -> bool:
    # an older release did not note how it read a file; that is taken to be the way of this release
    return landed is not None and landed[0] == file.fingerprint and landed[1] in (None, _reading(given, file))


def _reading(given: Input, file: SourceFile) -> str:
    # READING 1 is left out, as it was by the releases that had no READING
    connector = f"reading {files.READING}" if files.READING > 1 else ""
    return " ".join(filter(None, (given.digest, file.changed, connector)))


def _state_path(given: Input, file: SourceFile) -> str:
    return f"{file.path}#{given.label}" if given.label else file.path


def _groups(work: list[Work]) -> Iterator[list[Work]]:
    group: list[Work] = []
    size = 0
    for item in work:
        if group and (size + item[1].size > GROUP_BYTES or len(group) >= GROUP_FILES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item[1].size
    if group:
        yield group


def _land_group(
    settings: Settings,
    run_id: int | None,
    source: str,
    entity: Entity,
    group: list[Work],
    guard: Guard,
    result: EntityResult,
    within: tuple[datetime, datetime] | None,
    turn: int | None,
) -> Landed:
    """Land a group of files in one transaction; a file that fails is reported and the others land without it, in their order."""
    total = Landed()
    while group:
        reading: list[Work] = []
        try:
            total += land_batch(settings, entity, source, run_id, partial(_produce, entity, group, guard, reading=reading, within=within, held=result.held),
                                any(i.keeps_first for i, _ in group), turn=turn)  # fmt: skip
            return total
        except FileFailed as exc:
            failing = reading[-1] if reading else None
            if failing is None or exc.path != failing[1].path:
                raise
            result.error = result.error or redacted(str(exc))
            # the files before it were read without error: they land now, and are not read again for each broken file after them
            place = next(n for n, item in enumerate(group) if item is failing)
            total += _land_group(settings, run_id, source, entity, group[:place], guard, result, within, turn)
            group = group[place + 1 :]
    return total


def _produce(
    entity: Entity,
    group: list[Work],
    guard: Guard,
    delivery: Delivery,
    reading: list[Work],
    within: tuple[datetime, datetime] | None,
    held: list[str],
) -> Iterator[pa.RecordBatch]:
    for item, listed in zip(group, with_content([f for _, f in group]), strict=True):
        mapped_input = item[0]
        reading.append(item)
        file = without_half_line(listed)
        if file.whole is not None:
            held.append(file.path)
        if len(_state_path(mapped_input, file).encode()) > LONGEST_PATH:
            raise FileFailed(
                file.path, f"its path is longer than {LONGEST_PATH:,} bytes; deliver it under a shorter one"
            )
        path, read_before, bad_before = _state_path(mapped_input, file), delivery.read, delivery.rejects.count
        source = Reading(file, mapped_input.csv)
        pending: list[BadRow] = []
        for raw in mapped_input.apply(source):
            _check_columns(entity, raw, file)
            done, rows_outside = in_range(entity, normalise(entity, raw, guard), within)
            delivery.read += raw.num_rows
            delivery.beside += rows_outside
            delivery.refused += done.refused
            delivery.erased += done.erased
            delivery.note_drift(entity, raw, path)
            pending += done.bad
            if len(pending) > 50_000:
                _reject(path, pending, {}, delivery)
                pending = []
            if done.rows.num_rows:
                yield done.rows
        lines = source.lines_of({line for line, _, _ in pending})
        _reject(path, pending, lines, delivery)
        for rejected in source.rejected:
            delivery.read += 1
            delivery.rejects.add(path, rejected.line, [rejected.reason], sealed_row(rejected.row, guard.key))
        if within:
            # the rows outside the range have not landed, so the file does not count as read
            continue
        delivery.files.append(
            {"path": path, "fingerprint": file.fingerprint, "reading": _reading(mapped_input, file), "size": file.size,
             "read": delivery.read - read_before, "quarantined": delivery.rejects.count - bad_before}
        )  # fmt: skip


def _reject(path: str, bad: list[BadRow], lines: dict[int, int], delivery: Delivery) -> None:
    for line, reasons, row in bad:
        delivery.rejects.add(path, lines.get(line, line), reasons, row)


def _check_columns(entity: Entity, raw: pa.RecordBatch, file: SourceFile) -> None:
    if kind_of(file) in ("jsonl", "json"):
        return
    for column in entity.columns.values():
        if column.required and column.name not in raw.schema.names:
            raise FileFailed(file.path, f"the required column {column.name} is missing; add it to the file")


def _line(r: EntityResult) -> str:
    if r.error and not r.files:
        return f"  {r.entity}: FAILED, {r.error}"
    parts = [f"{r.inserted:,} new"]
    parts += [f"{n:,} {word}" for n, word in (
        (r.updated, "replaced"), (r.unchanged, "repeated"), (r.quarantined, "quarantined"), (r.refused, "refused")) if n]  # fmt: skip
    if r.held:
        more = f" and {len(r.held) - 1} more" if len(r.held) > 1 else ""
        parts.append(f"the last line of {r.held[0]}{more} has no end yet and waits for the next run")
    failed = f"; FAILED, {r.error}" if r.error else ""
    return f"  {r.entity}: {r.files} file{'s' if r.files != 1 else ''}, {', '.join(parts)} ({r.seconds:.1f} s){failed}"
