"""Land a directory: find what is new for each entity, read it, hand it to the merge, isolate the files that fail."""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa

from northstar.base.errors import FileFailed, NorthstarError, PassingError
from northstar.base.escaping import make_visible
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.extract.landing.batch import Delivery, Landed, land_batch
from northstar.extract.landing.mapped import Mapped, Origin, Unit, require_columns
from northstar.extract.landing.mapping import MAPPING_FILE, Input, contract_inputs, read_mapping
from northstar.extract.landing.normalise import in_range, normalise
from northstar.extract.landing.personal_values import seal_row, storable
from northstar.extract.landing.profile import Profile
from northstar.extract.landing.reasons import commonest_reasons, describe
from northstar.extract.landing.settled import Settled, read_settled
from northstar.extract.sources import archives, files
from northstar.extract.sources.files import (
    SourceFile,
    Storage,
    check_directory,
    list_files,
    with_content,
    without_unfinished_line,
)
from northstar.privacy.guard import Guard, landing_guard
from northstar.privacy.personal import redact
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import Row

READ_FORMATS = "csv, tsv, jsonl, ndjson, json or parquet"
GROUP_BYTES = 512 << 20
GROUP_FILES = 500
# the path is part of a key, and an index entry of Postgres holds 2,704 bytes
LONGEST_PATH = 2_000
# characters, which may have four bytes each
LONGEST_UNREAD = 500
# in a rejected row, what comes before the names of the source's own columns
SOURCE_PREFIX = "source."
# {(entity, path): (fingerprint, how it was read, the first run that no longer found it)}
LandedFiles = dict[tuple[str, str], tuple[str, str | None, int | None]]
# files whose rows are made together, and what makes them
Work = tuple[Mapped, Unit]


@dataclass(kw_only=True)
class EntityResult(Landed):
    """What landing one entity of a source did; `error` is the one-line message of what failed, if anything."""

    source: str
    entity: str
    # files whose last line has no end yet
    unfinished_files: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    is_passing: bool = False


def land_directory(
    settings: Settings,
    run_id: int | None,
    source_dir: str,
    mapping: Path | None = None,
    source: str = "files",
    progress: Progress = print,
    storage: Storage | None = None,
    time_range: tuple[datetime, datetime] | None = None,
    only: dict[str, set[str]] | None = None,
    turn: int | None = None,
) -> list[EntityResult]:
    """Land every new or changed file below `source_dir`; returns a result for each entity that has any files.

    A file counts as changed, too, when it would be read in another way than it was: with another mapping, or for another contract.

    mapping: says how a foreign layout becomes contract entities. A `_mapping.yml` in the directory is followed where the home's
    `mapping_in_source` says so, and refused otherwise. storage: what fsspec needs besides the address
    (northstar.extract.sources.files.storage_options). time_range: read all files again, land the rows in this half-open range, and do not
    change which files count as read. only: read these files ({entity: their paths as in audit.landed_files}) again, whether or not
    anything changed, and no others. turn: as for land_batch.

    One failing file or entity does not keep the others from landing; a NorthstarError names the failed ones afterwards.
    """
    check_directory(source_dir, storage)
    inputs = _inputs(settings, source_dir, mapping, storage)
    guard, results, has_files = landing_guard(settings), [], False
    unread_files: list[tuple[str, str]] = []
    landed_files = {} if time_range or only else _landed_files(settings, source)
    listed_paths: dict[str, dict[str, str]] = {}
    for entity in entities().values():
        own_inputs = [i for i in inputs if i.entity == entity.name]
        started = time.monotonic()
        result = EntityResult(source=source, entity=entity.name)
        try:
            with contextlib.ExitStack() as stack:
                work: list[tuple[Mapped, Unit]] = []
                for own_input in own_inputs:
                    passed_over: list[str] = []
                    listed = listed_files(source_dir, own_input, storage, passed_over)
                    unread_files += [(entity.name, path) for path in passed_over]
                    if not any(listed.values()):
                        continue
                    mapped = Mapped(own_input, settings.home / "tmp" / "mapping", settings.operations.mapping_memory_mb,
                                    settings.operations.mapping_minutes)  # fmt: skip
                    stack.callback(mapped.close)
                    work += [(mapped, unit) for unit in units(mapped, listed)]
                has_files = has_files or bool(work)
                listed_paths[entity.name] = {u.state_path(f.path): f.path for _, u in work for f in u.files}
                if not work:
                    continue
                if only is not None:
                    work = [(m, u) for m, u in work if _paths(u) & only.get(entity.name, set())]
                new_work = [(m, u) for m, u in work if not _has_landed(landed_files, entity.name, u)]
                total = Landed()
                for group in _groups(new_work):
                    total += _land_group(settings, run_id, source, entity, group, guard, result, time_range, turn,
                                         learns=time_range is None and only is None)  # fmt: skip
            result += total
        except NorthstarError as exc:
            result.error, result.is_passing = redact(str(exc)), isinstance(exc, PassingError)
        result.seconds = time.monotonic() - started
        results.append(result)
        if result.files or result.error:
            progress(_summary(result))
        if result.quarantined and not result.inserted + result.updated + result.unchanged:
            progress(f"  {entity.name}: no row landed: {describe(commonest_reasons(settings, entity.name))}")
    failed = [r for r in results if r.error]
    # what failed is the news: a server whose disk is full takes no notes either
    with contextlib.suppress(NorthstarError) if failed else contextlib.nullcontext():
        if only is None and time_range is None:
            _note_unread(settings, source, unread_files, progress)
        if run_id is not None:
            _note_missing_files(settings, run_id, source, landed_files, listed_paths, turn)
    if not has_files and not failed:
        raise NorthstarError(
            f"{source_dir} holds no files to land: it needs a folder for each entity, such as {source_dir}/accounts/*.csv"
        )
    if failed:
        more = f" (and {len(failed) - 1} more entities failed)" if len(failed) > 1 else ""
        kind = PassingError if any(r.is_passing for r in failed) else NorthstarError
        raise kind(f"{failed[0].entity}: {failed[0].error}{more}")
    return results


def _inputs(settings: Settings, source_dir: str, mapping: Path | None, storage: Storage | None) -> list[Input]:
    if mapping is None and not _has_mapping_file(source_dir, storage):
        return contract_inputs()
    if mapping is None and not settings.operations.mapping_in_source:
        raise NorthstarError(
            f"{source_dir}/{MAPPING_FILE} is not followed, because whoever writes the data could decide how it is read: review it and "
            f"give it with --mapping (or `mapping:` in sources.yml), or set `mapping_in_source: true` in {settings.config}/operations.yml"
        )
    return read_mapping(source_dir, mapping, storage)


def _has_mapping_file(source_dir: str, storage: Storage | None) -> bool:
    system, root = fsspec.core.url_to_fs(source_dir, **(storage or {}))
    is_there: bool = system.exists(f"{root.rstrip('/')}/{MAPPING_FILE}")
    return is_there


def _note_unread(settings: Settings, source: str, found: list[tuple[str, str]], progress: Progress) -> None:
    """Keep which files in entities' folders are not read, and tell of the new ones."""
    with db.connect(settings, "loader") as connection:
        known_rows = connection.execute("select entity, path from audit.unread_files where source = %s", [source])
        known = {(row["entity"], row["path"]) for row in known_rows}
        kept = {(entity, make_visible(redact(path))[:LONGEST_UNREAD]) for entity, path in found}
        for entity, path in sorted(known - kept):
            connection.execute(
                "delete from audit.unread_files where source = %s and entity = %s and path = %s", [source, entity, path]
            )
        for entity, path in sorted(kept - known):
            connection.execute(
                "insert into audit.unread_files (source, entity, path) values (%s, %s, %s)", [source, entity, path]
            )
            progress(f"  {entity}: {path} is not read; deliver {READ_FORMATS}")


def _landed_files(settings: Settings, source: str) -> LandedFiles:
    """The files that have landed."""
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select entity, path, fingerprint, reading, missing_since_run from audit.landed_files where source = %s",
            [source],
        ).fetchall()
    return {
        (row["entity"], row["path"]): (row["fingerprint"], row["reading"], row["missing_since_run"]) for row in rows
    }


def _note_missing_files(
    settings: Settings,
    run_id: int,
    source: str,
    landed: LandedFiles,
    listed: dict[str, dict[str, str]],
    turn: int | None,
) -> None:
    """Note the landed files that are listed no more, and those that are back. listed: as for `missing_files`."""
    noted = {place for place, (_, _, missing_since) in landed.items() if missing_since is not None}
    back = {(entity, path) for entity, path in noted if path in listed.get(entity, {})}
    changes: list[tuple[int | None, str, str, str]] = [
        (run_id, source, *place) for place in missing_files(landed, listed) - noted
    ]
    changes += [(None, source, *place) for place in back]
    if not changes:
        return
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, run_id if turn is None else turn, by_hand=True)
        connection.cursor().executemany(
            "update audit.landed_files set missing_since_run = %s where source = %s and entity = %s and path = %s",
            changes,
        )


def missing_files(landed: Iterable[tuple[str, str]], listed: dict[str, dict[str, str]]) -> set[tuple[str, str]]:
    """Those of the landed files, as (entity, path), that are gone although other files of their folder are there, or that were their entity's last.

    A folder that is gone while others stay was put away, as folders of days are. listed: {entity: {path as in audit.landed_files: the file's own}}
    of the entities whose files could be listed.
    """
    own_paths = {path for paths in listed.values() for path in paths.values()}
    # an archive that holds several files by now, or one
    own_paths |= {archives.split(path)[0] for path in own_paths}
    folders = {entity: {_folder(path) for path in paths} for entity, paths in listed.items()}
    return {
        (entity, path)
        for entity, path in landed
        if entity in listed
        and path not in listed[entity]
        # a mapping that has changed may read the file under another label
        and path.rpartition("#")[0] not in own_paths
        and path not in own_paths
        and (not listed[entity] or _folder(path) in folders[entity])
    }


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def listed_files(
    source_dir: str, own_input: Input, storage: Storage | None, passed_over: list[str] | None = None
) -> dict[str, list[SourceFile]]:
    """The files of each part of an input. passed_over: takes the paths of others, where an entity's folder is the contract's own."""
    listed: dict[str, list[SourceFile]] = {}
    for part in own_input.parts:
        files_found = [
            f
            for pattern in part.patterns
            for f in list_files(
                source_dir, pattern, storage, part.any_ending, passed_over if own_input.select is None else None
            )
        ]
        listed[part.name] = list({f.path: f for f in files_found}.values())
    return listed


def units(mapped: Mapped, listed: dict[str, list[SourceFile]]) -> list[Unit]:
    """The files of an input, in the units whose rows are made together."""
    first, *others = (listed[part.name] for part in mapped.input.parts)
    further = dict(zip([part.name for part in mapped.input.parts[1:]], others, strict=True))
    if mapped.is_together:
        return [Unit(mapped.input, first, further, is_together=True)] if first else []
    return [Unit(mapped.input, [file], further) for file in first]


def _paths(unit: Unit) -> set[str]:
    """The names under which rows of a unit may be in quarantine."""
    return {unit.path, *(unit.state_path(file.path) for file in unit.files)}


def _has_landed(landed: LandedFiles, entity: str, unit: Unit) -> bool:
    for file in unit.files:
        fingerprint, how, _ = landed.get((entity, unit.state_path(file.path)), (None, None, None))
        # an older release did not note how it read a file; that is taken to be the way of this release
        if fingerprint != file.fingerprint or how not in (None, _reading_digest(unit, file)):
            return False
    return True


def _reading_digest(unit: Unit, file: SourceFile) -> str:
    # READING 1 is left out, as it was by the releases that had no READING
    connector = f"reading {files.READING}" if files.READING > 1 else ""
    others = [f"{f.path} {f.fingerprint}" for further in unit.others.values() for f in further]
    joined = hashlib.sha256("\n".join(others).encode()).hexdigest()[:16] if others else ""
    return " ".join(filter(None, (unit.input.digest, file.changed, connector, joined)))


def _groups(work: list[Work]) -> Iterator[list[Work]]:
    """The work in groups that land in one transaction each; which row of a key stays is one rule for a group."""
    group: list[Work] = []
    size = 0
    for item in work:
        unit = item[1]
        is_full = size + unit.size > GROUP_BYTES or len(group) >= GROUP_FILES
        if group and (is_full or unit.input.keep != group[0][1].input.keep):
            yield group
            group, size = [], 0
        group.append(item)
        size += unit.size
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
    time_range: tuple[datetime, datetime] | None,
    turn: int | None,
    learns: bool,
) -> Landed:
    """Land a group of files in one transaction; a file that fails is reported and the others land without it, in their order."""
    total = Landed()
    while group:
        reading: list[Work] = []
        try:
            total += land_batch(settings, entity, source, run_id, partial(_produce, entity, group, guard, reading=reading, time_range=time_range, unfinished_files=result.unfinished_files,
                                settled=read_settled(settings), learns=learns),
                                group[0][1].input.keep, turn=turn)  # fmt: skip
            return total
        except FileFailed as exc:
            failing = reading[-1] if reading else None
            if failing is None or exc.path not in _read_paths(failing[1]):
                raise
            result.error = result.error or redact(str(exc))
            # the files before it were read without error: they land now, and are not read again for each broken file after them
            place = next(n for n, item in enumerate(group) if item is failing)
            total += _land_group(
                settings, run_id, source, entity, group[:place], guard, result, time_range, turn, learns
            )
            group = group[place + 1 :]
    return total


def _produce(
    entity: Entity,
    group: list[Work],
    guard: Guard,
    delivery: Delivery,
    reading: list[Work],
    time_range: tuple[datetime, datetime] | None,
    unfinished_files: list[str],
    settled: Settled,
    learns: bool,
) -> Iterator[pa.RecordBatch]:
    delivery.profile = Profile() if learns else None
    contents = with_content([f for _, unit in group for f in unit.files])
    for item in group:
        mapped, unit = item
        reading.append(item)
        whole_files = [without_unfinished_line(next(contents)) for _ in unit.files]
        unit = replace(unit, files=whole_files)
        for file in whole_files:
            if file.finished_bytes is not None:
                unfinished_files.append(file.path)
            if len(unit.state_path(file.path).encode()) > LONGEST_PATH:
                raise FileFailed(
                    file.path, f"its path is longer than {LONGEST_PATH:,} bytes; deliver it under a shorter one"
                )
        read_before, bad_before = delivery.read, delivery.rejects.count
        rejected = _Rejected(delivery, unit, guard)
        for piece in mapped.pieces(unit):
            for origin, reason in piece.bad:
                delivery.read += 1
                rejected.add(origin, [reason], {}, entity)
            raw = piece.batch
            if not raw.num_rows:
                continue
            require_columns(entity, raw.schema.names, unit.files[0])
            done, rows_outside = in_range(entity, normalise(entity, raw, guard, settled=settled), time_range)
            delivery.read += raw.num_rows
            if delivery.profile is not None:
                delivery.profile.add(entity, done.rows, done.lines, unit.path, piece.place)
            delivery.outside_range += rows_outside
            delivery.refused += done.refused
            delivery.erased += done.erased
            delivery.record_drift(entity, raw, unit.path)
            for line, reasons, row in done.bad:
                rejected.add(piece.origin(line), reasons, row, entity)
            if done.rows.num_rows:
                yield done.rows
        rejected.flush()
        for path, own in unit.readings.items():
            for bad in own.rejected:
                delivery.read += 1
                delivery.rejects.add(path, bad.line, [bad.reason], seal_row(bad.row, guard.key))
            delivery.keep_reading(path, own)
        unit.readings.clear()
        if time_range:
            # the rows outside the range have not landed, so the file does not count as read
            continue
        delivery.names += [unit.path] if unit.is_together else []
        for file in unit.files:
            delivery.files.append(
                {"path": unit.state_path(file.path), "fingerprint": file.fingerprint, "reading": _reading_digest(unit, file), "size": file.size,
                 "read": delivery.read - read_before, "quarantined": delivery.rejects.count - bad_before}
            )  # fmt: skip


class _Rejected:
    """The rejected rows of a unit on their way to quarantine. Their lines are counted once their file has been read."""

    def __init__(self, delivery: Delivery, unit: Unit, guard: Guard):
        self._delivery, self._unit, self._guard = delivery, unit, guard
        self._pending: dict[str, list[tuple[int | None, list[str], Row]]] = {}
        self._count = 0

    def add(self, origin: Origin, reasons: list[str], row: Row, entity: Entity) -> None:
        """row: as it was mapped, in a form that may be stored; the source's own row is kept beside it."""
        own_row = storable(origin.row, self._guard.key)
        kept = {**row, **{f"{SOURCE_PREFIX}{name}": value for name, value in own_row.items() if value is not None}}
        self._pending.setdefault(origin.path, []).append((origin.line, reasons, kept))
        self._count += 1
        if self._count > 50_000:
            # so many that their lines are not worth a second reading of the file
            self._hand_over({})
            self._pending, self._count = {}, 0

    def flush(self) -> None:
        lines_by_path = {
            path: own.lines_of({line for line, _, _ in self._pending.get(path, []) if line is not None})
            for path, own in self._unit.readings.items()
        }
        self._hand_over(lines_by_path)

    def _hand_over(self, lines_by_path: dict[str, dict[int, int]]) -> None:
        for path, rows in self._pending.items():
            lines = lines_by_path.get(path, {})
            for line, reasons, row in rows:
                self._delivery.rejects.add(path, line if line is None else lines.get(line, line), reasons, row)


def _read_paths(unit: Unit) -> set[str]:
    return {file.path for further in (unit.files, *unit.others.values()) for file in further} | {unit.path}


def _summary(r: EntityResult) -> str:
    if r.error and not r.files:
        return f"  {r.entity}: FAILED, {r.error}"
    parts = [f"{r.inserted:,} new"]
    parts += [f"{n:,} {word}" for n, word in (
        (r.updated, "replaced"), (r.unchanged, "repeated"), (r.quarantined, "quarantined"), (r.refused, "refused")) if n]  # fmt: skip
    if r.unfinished_files:
        more = f" and {len(r.unfinished_files) - 1} more" if len(r.unfinished_files) > 1 else ""
        parts.append(f"the last line of {r.unfinished_files[0]}{more} has no end yet and waits for the next run")
    failed = f"; FAILED, {r.error}" if r.error else ""
    return f"  {r.entity}: {r.files} file{'s' if r.files != 1 else ''}, {', '.join(parts)} ({r.seconds:.1f} s){failed}"
