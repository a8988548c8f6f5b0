"""What a mapping makes of files, before anything lands: rows beside what becomes of them, what would go to quarantine and why, and of what
landing would warn.

It needs no warehouse and no home. Nothing is stored. The audit's checks of landed rows are tried by northstar.runs.mapping_checks.
"""

import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from northstar.base.errors import NorthstarError
from northstar.contract import Entity, entities
from northstar.extract.landing.batch import NEWEST_CURSOR
from northstar.extract.landing.directory import READ_FORMATS, listed_files, units
from northstar.extract.landing.mapped import Mapped, Piece, Unit
from northstar.extract.landing.mapping import MAPPING_FILE, Input, contract_inputs, read_mapping
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.profile import Place, Profile
from northstar.extract.landing.settled import NOTHING_SETTLED
from northstar.extract.landing.time_patterns import PatternCounts
from northstar.extract.landing.unusual import Finding, judge
from northstar.extract.sources.archives import split
from northstar.extract.sources.files import Reading
from northstar.privacy.guard import Guard
from northstar.warehouse.rows import Row

# how many rows are looked at for the counts
LOOKED_AT = 20_000
# how far above a file its source directory may lie
LEVELS = 4


@dataclass
class Previewed:
    """A row: where it comes from, as the source has it, and what it becomes or why it would not land."""

    path: str
    line: int | None
    source: Row
    lands: Row = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


@dataclass
class Preview:
    """What a mapping makes of an entity's files.

    looked_at, landing, rejected, refused: numbers of rows. reasons: {reason: rows}. unknown: {column: {value: rows}} of the values that are not
    among a column's. unused: columns of the files that nothing is made of. patterns: those by which times were read, in the order in which they
    are tried. currencies: {column: {code: rows}}. warnings: of what landing would warn. landed: the rows that would land. keeps_newest: whether of
    several rows with one key the newest stays. is_part: whether there are more rows than were looked at.
    """

    entity: str
    files: int = 0
    rows: list[Previewed] = field(default_factory=list)
    looked_at: int = 0
    landing: int = 0
    rejected: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, Counter[str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    patterns: PatternCounts = field(default_factory=PatternCounts)
    currencies: dict[str, Counter[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    landed: list[pa.RecordBatch] = field(default_factory=list)
    keeps_newest: bool = True
    is_part: bool = False


def preview(path: Path, mapping: Path | None, entity_name: str | None, rows: int) -> list[Preview]:
    """What becomes of a file, or of a directory's files. mapping: None for the one beside them, or else the contract's own layout.

    entity_name: None for all that have files. rows: how many to show of each. Raises NorthstarError for a path that is not there, a mapping
    that is not understood, and when no input is about the file.
    """
    if not path.exists():
        raise NorthstarError(f"no file or directory {path}")
    if entity_name is not None and entity_name not in entities():
        raise NorthstarError(f"no entity {entity_name!r} in the contract; it has {', '.join(entities())}")
    previews = []
    with tempfile.TemporaryDirectory(prefix="northstar-preview-") as spill:
        for one, directory in _inputs(path, mapping):
            if entity_name is not None and one.entity != entity_name:
                continue
            mapped = Mapped(one, Path(spill), memory_mb=512, minutes=1)
            try:
                passed_over: list[str] = []
                chosen = _chosen(units(mapped, listed_files(directory, one, None, passed_over)), path, directory)
                if chosen:
                    previews.append(_of_units(mapped, chosen, rows))
                    if path.is_dir():
                        previews[-1].warnings += [f"{name} is not read; deliver {READ_FORMATS}" for name in passed_over]
            finally:
                mapped.close()
    if not previews:
        what = f"for {entity_name} " if entity_name else ""
        raise NorthstarError(
            f"nothing in {mapping or 'the contract'} is about {path} {what}".rstrip()
            + "; give a mapping with --mapping (`northstar mapping guess` writes a first one)"
        )
    return previews


def _inputs(path: Path, mapping: Path | None) -> Iterator[tuple[Input, str]]:
    """The inputs with the directory that their patterns are relative to."""
    directory = path if path.is_dir() else path.parent
    if mapping is None and (directory / MAPPING_FILE).exists():
        mapping = directory / MAPPING_FILE
    candidates = [directory, *list(directory.resolve().parents)[: 0 if path.is_dir() else LEVELS]]
    for one in read_mapping(str(directory), mapping) if mapping else contract_inputs():
        for candidate in candidates:
            files = listed_files(str(candidate), one, None)
            if path.is_dir() or any(_is_same(candidate, f.path, path) for own in files.values() for f in own):
                yield one, str(candidate)
                break


def _is_same(directory: Path, relative: str, path: Path) -> bool:
    """Whether a listed file is the one that was asked for, or lies in the archive that was."""
    return path.resolve() in ((directory / relative).resolve(), (directory / split(relative)[0]).resolve())


def _chosen(all_units: list[Unit], path: Path, directory: str) -> list[Unit]:
    if path.is_dir():
        return all_units
    return [
        unit
        for unit in all_units
        if any(_is_same(Path(directory), f.path, path) for own in (unit.files, *unit.others.values()) for f in own)
    ]


def _of_units(mapped: Mapped, chosen: list[Unit], rows: int) -> Preview:
    entity, guard, profile = mapped.entity, Guard(secrets.token_hex(32)), Profile()
    result = Preview(
        entity.name, sum(len(unit.files) for unit in chosen), keeps_newest=mapped.input.keep == NEWEST_CURSOR
    )
    used = mapped.used_columns()
    readings: dict[str, Reading] = {}
    for unit in chosen:
        for piece in mapped.pieces(unit):
            if result.looked_at >= LOOKED_AT:
                result.is_part = True
                break
            _add(result, entity, piece, guard, rows, profile, unit.path)
            if not mapped.is_together:
                mapped.count_patterns(result.patterns)
        if mapped.is_together:
            mapped.count_patterns(result.patterns)
        for own in unit.readings.values():
            known = entity.columns if used is None and mapped.engine is None else used
            if known is not None:
                result.unused += [c for c in own.columns if c and c not in known and c not in result.unused]
        readings |= unit.readings
        for path, own in unit.readings.items():
            shown = [row for row in result.rows if row.path == path and row.line is not None]
            numbers = own.lines_of({row.line for row in shown if row.line is not None})
            for row in shown:
                row.line = numbers.get(row.line or 0, row.line)
            for bad in own.rejected:
                _reject(result, Previewed(path, bad.line, bad.row, reasons=[bad.reason]), rows)
        if result.is_part:
            break
    result.warnings += [_unusual(f, readings) for f in judge(entity, {}, profile, NOTHING_SETTLED)]
    return result


def _unusual(finding: Finding, readings: dict[str, Reading]) -> str:
    """A finding as the audit words it, with a row that shows it."""
    of = "" if finding.application in ("", "default") else f" of {finding.application}"
    text = f"{finding.column}{of}: {finding.what} ({finding.rows:,} row{'' if finding.rows == 1 else 's'}"
    if finding.examples:
        path, line = _in_editor(finding.examples[0], readings)
        text += f", such as {path}" + (f" line {line}" if line is not None else "")
    return text + ")"


def _in_editor(place: Place, readings: dict[str, Reading]) -> Place:
    path, number = place
    own = readings.get(path)
    return (path, number) if own is None or number is None else (path, own.lines_of({number}).get(number, number))


def _add(
    result: Preview, entity: Entity, piece: Piece, guard: Guard, rows: int, profile: Profile, unit_path: str
) -> None:
    for origin, reason in piece.bad:
        _reject(result, Previewed(origin.path, origin.line, origin.row, reasons=[reason]), rows)
    batch = piece.batch.slice(0, max(0, LOOKED_AT - result.looked_at))
    result.is_part = result.is_part or batch.num_rows < piece.batch.num_rows
    if not batch.num_rows:
        return
    for column in entity.columns.values():
        if column.values and column.name in batch.schema.names:
            counts = pc.value_counts(batch.column(column.name).cast(pa.string()))
            for value, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
                if value is not None and value.strip().lower() not in column.values:
                    result.unknown.setdefault(column.name, Counter())[value] += count
        if column.code == "currency" and column.name in batch.schema.names:
            counts = pc.value_counts(batch.column(column.name).cast(pa.string()).drop_null())
            for value, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
                result.currencies.setdefault(column.name, Counter())[value] += count
    done = normalise(entity, batch, guard)
    result.looked_at += batch.num_rows - len(done.bad)
    result.landing += done.rows.num_rows
    result.refused += done.refused
    result.landed.append(done.rows)
    profile.add(entity, done.rows, done.lines, unit_path, piece.place)
    bad = {line: reasons for line, reasons, _ in done.bad}
    shown_bad = _at_lines(batch, list(bad)[:rows])
    for line, reasons in bad.items():
        origin = piece.origin(line)
        _reject(
            result, Previewed(origin.path, origin.line, origin.row or shown_bad.get(line, {}), reasons=reasons), rows
        )
    wanted = rows - sum(not r.reasons for r in result.rows)
    lines = done.lines.slice(0, max(0, wanted)).to_pylist()
    sources = _at_lines(batch, lines)
    for line, row in zip(lines, done.rows.slice(0, len(lines)).to_pylist(), strict=True):
        origin = piece.origin(line)
        lands = {name: _landed(entity, name, value) for name, value in row.items() if value is not None}
        result.rows.append(Previewed(origin.path, origin.line, origin.row or sources[line], lands=lands))


def _at_lines(batch: pa.RecordBatch, lines: list[int]) -> dict[int, Row]:
    """The rows of a batch at some lines, as they came."""
    rows = batch.filter(pc.is_in(batch.column("_line"), pa.array(lines, pa.int64()))).to_pylist()
    return {row.pop("_line"): row for row in rows}


def _landed(entity: Entity, name: str, value: object) -> object:
    """A landed value as it is shown: a time as ISO 8601, a number without the zeros of its type, nothing that is personal."""
    if name in entity.columns and entity.columns[name].pii:
        return "(hashed)"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else value
    return value


def _reject(result: Preview, row: Previewed, rows: int) -> None:
    result.looked_at += 1
    result.rejected += 1
    result.reasons.update(row.reasons)
    if sum(bool(r.reasons) for r in result.rows) < rows:
        result.rows.append(row)


def as_text(previews: list[Preview]) -> str:
    """The previews for people."""
    return "\n\n".join(_text(one) for one in previews)


def _text(one: Preview) -> str:
    more = "the first " if one.is_part else ""
    lines = [
        f"{one.entity}: of {more}{one.looked_at:,} rows in {one.files} file{'s' if one.files != 1 else ''} {one.landing:,} would land, "
        f"{one.rejected:,} go to quarantine" + (f", {one.refused:,} refused for lack of consent" if one.refused else "")
    ]
    for row in sorted(one.rows, key=lambda r: (r.path, r.line if r.line is not None else -1)):
        lines.append("")
        lines.append(f"  {row.path}" + (f", line {row.line}" if row.line is not None else ""))
        lines.append(f"    source      {_pairs(row.source)}")
        lines.append(
            f"    quarantine  {'; '.join(row.reasons)}" if row.reasons else f"    lands       {_pairs(row.lands)}"
        )
    if one.reasons:
        lines += ["", "  why rows would not land:"]
        lines += [f"    {count:>7,}  {reason}" for reason, count in one.reasons.most_common(10)]
    for column, values in one.unknown.items():
        listed = ", ".join(f"{value!r} ({count:,})" for value, count in values.most_common(12))
        allowed = ", ".join(entities()[one.entity].columns[column].values or ())
        lines += ["", f"  {column} has values that are not among its own ({allowed}): {listed}"]
    if one.patterns.rows or one.currencies:
        lines += ["", *_readings(one)]
    if one.unused:
        lines += ["", f"  columns that nothing is made of: {', '.join(one.unused[:40])}"]
    if one.warnings:
        lines += ["", "  of this landing would warn:", *(f"    {warning}" for warning in one.warnings)]
    return "\n".join(lines)


def _readings(one: Preview) -> list[str]:
    """How times and currencies were read."""
    lines = []
    for (column, pattern), rows in one.patterns.rows.items():
        text = f"  {column} is read by {pattern} in {rows:,} row{'' if rows == 1 else 's'}"
        exchangeable = one.patterns.ambiguous[column, pattern]
        if exchangeable:
            text += f"; in {'all' if exchangeable == rows else f'{exchangeable:,}'} of them day and month could change places"
        lines.append(text)
    for column, codes in one.currencies.items():
        listed = ", ".join(f"{_short(code)} ({count:,})" for code, count in codes.most_common(12))
        lines.append(f"  {column}: {listed}")
    return lines


def _pairs(row: Row) -> str:
    return "  ".join(f"{name}={_short(value)}" for name, value in row.items() if value is not None) or "nothing"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
