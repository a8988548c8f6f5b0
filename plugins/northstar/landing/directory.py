"""Land a directory: find what is new for each entity, read it, hand it to the merge, isolate the files that fail."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from northstar import db
from northstar.contract import Entity, entities
from northstar.errors import NorthstarError
from northstar.landing.mapping import MAPPING_FILE, Input, contract_inputs, read_mapping
from northstar.landing.merge import Delivery, Landed, land_batch
from northstar.landing.normalise import in_range, normalise, sealed_row
from northstar.privacy.guard import Guard, landing_guard
from northstar.privacy.personal import redacted
from northstar.settings import Settings
from northstar.sources.files import Reading, SourceFile, check_directory, list_files, with_content

GROUP_BYTES = 512 << 20
GROUP_FILES = 500
# the path is part of a key, and an index entry of Postgres holds 2,704 bytes
LONGEST_PATH = 2_000


@dataclass
class EntityResult:
    """What landing one entity of a source did; `error` is the one-line message of what failed, if anything."""

    source: str
    entity: str
    files: int = 0
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    refused: int = 0
    seconds: float = 0.0
    error: str | None = None


def land_directory(
    settings: Settings,
    run_id: int | None,
    source_dir: str,
    mapping: Path | None = None,
    source: str = "files",
    progress=print,
    storage: dict | None = None,
    within: tuple[datetime, datetime] | None = None,
) -> list[EntityResult]:
    """Land every new or changed file below `source_dir`; returns a result for each entity that has any files.

    `mapping` (default: `_mapping.yml` in the directory, when there) tells how a foreign layout becomes contract entities;
    `storage` is what fsspec needs beside the address (northstar.sources.files.storage_options); `within` reads all files again, lands
    the rows in that half-open range, and leaves alone which files count as read.
    One failing file or entity does not keep the others from landing; a NorthstarError names the failed ones afterwards.
    """
    check_directory(source_dir, storage)
    has_mapping = mapping or _has_mapping(source_dir, storage)
    inputs = read_mapping(source_dir, mapping, storage) if has_mapping else contract_inputs()
    guard, results, found = landing_guard(settings), [], False
    known = {} if within else _known(settings, source)
    for entity in entities().values():
        mine = [i for i in inputs if i.entity == entity.name]
        started = time.monotonic()
        result = EntityResult(source, entity.name)
        try:
            work = [(i, f) for i in mine for pattern in i.patterns for f in list_files(source_dir, pattern, storage)]
            found = found or bool(work)
            if not work:
                continue
            new = [(i, f) for i, f in work if known.get((entity.name, _state_path(i, f))) != f.fingerprint]
            total = Landed()
            for group in _groups(new):
                total += _land_group(settings, run_id, source, entity, group, guard, result, within)
            result.files, result.rows_read = total.files, total.read
            for name in ("inserted", "updated", "unchanged", "quarantined", "refused"):
                setattr(result, name, getattr(total, name))
        except NorthstarError as exc:
            result.error = redacted(str(exc))
        result.seconds = time.monotonic() - started
        results.append(result)
        if result.files or result.error:
            progress(_line(result))
    if not found and not any(r.error for r in results):
        raise NorthstarError(
            f"{source_dir} holds no files to land: it needs a folder for each entity, such as {source_dir}/accounts/*.csv"
        )
    failed = [r for r in results if r.error]
    if failed:
        more = f" (and {len(failed) - 1} more entities failed)" if len(failed) > 1 else ""
        raise NorthstarError(f"{failed[0].entity}: {failed[0].error}{more}")
    return results


def _has_mapping(source_dir: str, storage: dict | None) -> bool:
    import fsspec

    system, root = fsspec.core.url_to_fs(source_dir, **(storage or {}))
    return system.exists(f"{root.rstrip('/')}/{MAPPING_FILE}")


def _known(settings: Settings, source: str) -> dict[tuple[str, str], str]:
    """{(entity, path): fingerprint} of the files that were landed."""
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select entity, path, fingerprint from audit.landed_files where source = %s", [source]
        ).fetchall()
    return {(row["entity"], row["path"]): row["fingerprint"] for row in rows}


def _state_path(given: Input, file: SourceFile) -> str:
    return f"{file.path}#{given.label}" if given.label else file.path


def _groups(work: list) -> Iterator[list]:
    group, size = [], 0
    for item in work:
        if group and (size + item[1].size > GROUP_BYTES or len(group) >= GROUP_FILES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item[1].size
    if group:
        yield group


def _land_group(settings, run_id, source, entity, group: list, guard: Guard, result: EntityResult, within) -> Landed:
    """Land a group of files in one transaction; a file that fails is reported and the others land without it."""
    while group:
        reading: list = []
        try:
            return land_batch(settings, entity, source, run_id, lambda d, r=reading, g=group: _produce(entity, g, guard, d, r, within),
                              any(i.keeps_first for i, _ in group))  # fmt: skip
        except NorthstarError as exc:
            failing = reading[-1] if reading else None
            if failing is None or not str(exc).startswith(failing[1].path):
                raise
            result.error = result.error or redacted(str(exc))
            group = [item for item in group if item is not failing]
    return Landed()


def _produce(
    entity: Entity, group: list, guard: Guard, delivery: Delivery, reading: list, within
) -> Iterator[pa.RecordBatch]:
    for item, file in zip(group, with_content([f for _, f in group]), strict=True):
        given = item[0]
        reading.append(item)
        if len(_state_path(given, file).encode()) > LONGEST_PATH:
            raise NorthstarError(
                f"{file.path}: its path is longer than {LONGEST_PATH:,} bytes; deliver it under a shorter one"
            )
        path, read_before, bad_before = _state_path(given, file), delivery.read, delivery.rejects.count
        source = Reading(file, given.csv)
        pending: list = []
        for raw in given.apply(source):
            _check_columns(entity, raw, file)
            done, beside = in_range(entity, normalise(entity, raw, guard), within)
            delivery.read += raw.num_rows
            delivery.beside += beside
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
            # the rows beside the range were not landed: the file does not count as read by this
            continue
        delivery.files.append(
            {"path": path, "fingerprint": file.fingerprint, "size": file.size, "read": delivery.read - read_before,
             "quarantined": delivery.rejects.count - bad_before}
        )  # fmt: skip


def _reject(path: str, bad: list, lines: dict, delivery: Delivery) -> None:
    for line, reasons, row in bad:
        delivery.rejects.add(path, lines.get(line, line), reasons, row)


def _check_columns(entity: Entity, raw: pa.RecordBatch, file: SourceFile) -> None:
    if file.path.lower().endswith((".jsonl", ".jsonl.gz")):
        return
    for column in entity.columns.values():
        if column.required and column.name not in raw.schema.names:
            raise NorthstarError(f"{file.path}: the required column {column.name} is missing; add it to the file")


def _line(r: EntityResult) -> str:
    if r.error and not r.files:
        return f"  {r.entity}: FAILED, {r.error}"
    parts = [f"{r.inserted:,} new"]
    parts += [f"{n:,} {word}" for n, word in (
        (r.updated, "replaced"), (r.unchanged, "repeated"), (r.quarantined, "quarantined"), (r.refused, "refused")) if n]  # fmt: skip
    failed = f"; FAILED, {r.error}" if r.error else ""
    return f"  {r.entity}: {r.files} file{'s' if r.files != 1 else ''}, {', '.join(parts)} ({r.seconds:.1f} s){failed}"
