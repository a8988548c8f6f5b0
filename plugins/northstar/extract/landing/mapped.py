"""The rows that files become under a mapping: each file on its own where rows are made one by one, else all files of an input together.

Pieces of rows leave here in the contract's columns, still untyped, each row with a number by which its origin can be asked for: file, line
and the source's own row. Rows that the mapping cannot process leave as bad rows, with the reason, for quarantine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from northstar.base.errors import FileFailed, NorthstarError
from northstar.contract import Entity, entities
from northstar.extract.landing.bad_values import (
    FILE_OF,
    LEFT_OUT,
    LINE_OF,
    BadValue,
    Finder,
    exclude_groups,
    select_left_out,
    selected_rows,
)
from northstar.extract.landing.engine import VALUE_ERRORS, Engine, Error, literal, message, quoted
from northstar.extract.landing.mapping import Input, Part
from northstar.extract.landing.personal_values import plain_name
from northstar.extract.landing.statement import Statement, misread, nodes, parse
from northstar.extract.landing.time_patterns import PatternCounts, calls_of, count_patterns
from northstar.extract.sources.files import Reading, SourceFile, hint_at_delimiter, kind_of
from northstar.extract.sources.foreign import reading
from northstar.extract.sources.packed import is_readable
from northstar.privacy.personal import quote_safely
from northstar.warehouse.rows import Row

# columns of every input
LINE, FILE, LOADED = "_line", "_file", "_loaded_at"
# the rows of the first input, when all files are looked at together; the select reads it by the input's own name
ROWS = "_rows"
ROWS_AT_A_TIME = 65_536
# how files begin that are no csv, with what they seem to be
NO_CSV = {
    "<": "a page of HTML, or XML", "{": "JSON, which its name does not say", "[": "JSON, which its name does not say",
    "version https://git-lfs": "a pointer of Git LFS in place of the file",
}  # fmt: skip
# why a row that nothing is wrong with does not land
LEFT_OUT_REASON = "belongs to a group with a bad row"


@dataclass(frozen=True)
class Origin:
    """Where a row comes from: the file, or the unit where the select does not pass `_file` on. line: its number in it, as the reading counts."""

    path: str
    line: int | None
    row: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """Rows of an input. batch: with `_line`, the number that `origin` and `place` take. bad: rows that the mapping could not process, with reasons.

    place: the path and line of an origin, without the source's row, which takes time to find.
    """

    batch: pa.RecordBatch
    origin: Callable[[int], Origin]
    place: Callable[[int], tuple[str, int | None]]
    bad: list[tuple[Origin, str]] = field(default_factory=list)


@dataclass
class Unit:
    """The files whose rows are made together. others: {name: files} of the further inputs of a select. readings: those that were opened.

    is_together: whether these are all files of the input, which count as one.
    """

    input: Input
    files: list[SourceFile]
    others: dict[str, list[SourceFile]] = field(default_factory=dict)
    is_together: bool = False
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(file.size for file in self.files)

    @property
    def path(self) -> str:
        """A name for quarantine where a row does not say its file: the file's, or the patterns of all of them."""
        if not self.is_together:
            return self.state_path(self.files[0].path)
        return self.state_path(" + ".join(pattern for part in self.input.parts for pattern in part.patterns))

    def state_path(self, path: str) -> str:
        """The path under which audit.landed_files knows a file."""
        return f"{path}#{self.input.label}" if self.input.label else path


class Mapped:
    """The select of an input, ready to run over its files. Close it."""

    def __init__(self, mapped_input: Input, temp: Path, memory_mb: int, minutes: float):
        self.input = mapped_input
        self.entity: Entity = entities()[mapped_input.entity]
        self.engine: Engine | None = None
        self.loaded_at = datetime.now(UTC)
        if mapped_input.select is not None:
            csv = mapped_input.parts[0].form.csv
            self.engine = Engine(temp, memory_mb, minutes, csv.decimal, csv.thousands)
            try:
                _require_expressions(self.engine, mapped_input.column_sql)
                self.statement: Statement = parse(
                    self.engine, mapped_input.select, [p.name for p in mapped_input.parts]
                )
            except NorthstarError as exc:
                self.close()
                raise NorthstarError(f"the mapping of {self.entity.name}: {exc}") from exc
        self._others: tuple[str, ...] | None = None

    @property
    def is_together(self) -> bool:
        """Whether all files of the input are one unit, since its select may combine rows of several."""
        return self.engine is not None and not self.input.per_file and not self.statement.is_rowwise

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()

    def used_columns(self) -> set[str] | None:
        """The names of columns that the select mentions; None where it takes all of them, or there is none."""
        if self.engine is None:
            return None
        all_nodes = list(nodes(self.statement.tree))
        if any(n.get("class") == "STAR" and not n.get("expr") for n in all_nodes) and self.statement.combines:
            return None
        return {str(n["column_names"][-1]) for n in all_nodes if n.get("class") == "COLUMN_REF"}

    def count_patterns(self, counts: PatternCounts) -> None:
        """Add which patterns read how many of the rows that were last read: a file's part, or all files of an input."""
        if self.engine is None:
            return
        rows = self.input.parts[0].name
        finder = Finder(self.engine, self.statement, rows, has_files=False)
        count_patterns(finder, calls_of(finder), counts)

    def pieces(self, unit: Unit) -> Iterator[Piece]:
        """The rows of a unit. Raises FileFailed, naming a file, for what cannot be read or mapped."""
        if self.engine is None:
            file = unit.files[0]
            yield from self._as_delivered(unit, file)
            return
        first = unit.files[0].path if unit.files else unit.path
        try:
            self._load_others(self.engine, unit)
            if self.statement.is_rowwise:
                for file in unit.files:
                    first = file.path
                    yield from self._one_by_one(self.engine, unit, file)
            else:
                yield from self._together(self.engine, unit)
        except FileFailed:
            raise
        except NorthstarError as exc:
            raise FileFailed(first, f"the mapping of {self.entity.name}: {exc}") from exc
        except Error as exc:
            raise FileFailed(first, f"the mapping of {self.entity.name}: {self._describe_error(exc)}") from exc

    def _as_delivered(self, unit: Unit, file: SourceFile) -> Iterator[Piece]:
        path = unit.state_path(file.path)
        unit.readings[path] = own = Reading(file, self.input.parts[0].form.csv)
        for batch in own.batches():
            require_columns(self.entity, batch.schema.names, file)
            yield Piece(batch, lambda line: Origin(path, line), lambda line: (path, line))
        if own.columns:
            # a page that asks for a log-in is a header without rows
            require_columns(self.entity, own.columns, file)
            _require_any_column(self.entity, own)

    def _one_by_one(self, engine: Engine, unit: Unit, file: SourceFile) -> Iterator[Piece]:
        part, path = self.input.parts[0], unit.state_path(file.path)
        unit.readings[path] = own = reading(file, part.form)
        for raw in own.batches():
            batch = self._with_origin(with_optional(raw, part), file.path, self.statement.text)
            bad: list[tuple[Origin, str]] = []
            engine.show(part.name, batch)
            try:
                rows = engine.table(self.statement.text)
            except VALUE_ERRORS as exc:
                engine.show(ROWS, batch)
                found = self._find_bad_rows(engine, ROWS, has_files=False)
                if not found:
                    raise NorthstarError(message(exc)) from exc
                bad = [(Origin(path, b.line, _row(raw, b.line)), b.reason) for b in found]
                is_bad = pc.is_in(batch.column(LINE), pa.array([b.line for b in found], pa.int64()))
                # the search may have left a view of that name
                engine.drop_view(part.name)
                engine.show(part.name, batch.filter(pc.invert(is_bad)))
                rows = engine.table(self.statement.text)

            def origin(line: int, raw: pa.RecordBatch = raw) -> Origin:
                return Origin(path, line, _row(raw, line))

            mapped = self._contract_batches(rows.drop_columns([FILE]) if FILE in rows.column_names else rows)
            for number, piece in enumerate(mapped):
                yield Piece(piece, origin, lambda line: (path, line), bad if number == 0 else [])
            if bad and not rows.num_rows:
                yield Piece(_empty_batch(), origin, lambda line: (path, line), bad)

    def _together(self, engine: Engine, unit: Unit) -> Iterator[Piece]:
        part = self.input.parts[0]
        engine.drop_view(part.name)
        engine.store(ROWS, self._raw_batches(unit, part, unit.files))
        engine.execute(f"create or replace temp view {quoted(part.name)} as select * from {ROWS}")
        engine.drop(LEFT_OUT)
        bad: list[tuple[Origin, str]] = []
        text = self.statement.text
        # a second value may only be met once the first is out of the way
        for _ in range(3):
            try:
                engine.execute(f"create or replace temp table _result as {text}")
                break
            except VALUE_ERRORS as exc:
                found = self._find_bad_rows(engine, ROWS, has_files=True)
                if not found:
                    raise NorthstarError(message(exc)) from exc
                text = self._exclude_bad_rows(engine, found)
                bad += [
                    (
                        Origin(
                            unit.state_path(b.file or ""), b.line, self._source_row(engine, "_bad_rows", b.file, b.line)
                        ),
                        b.reason,
                    )
                    for b in found
                ]
        else:
            raise NorthstarError("its values fail one after the other; look at the first rejected rows of these files")
        only = unit.files[0].path if len(unit.files) == 1 else None
        yield Piece(_empty_batch(), lambda _: Origin(unit.path, None), lambda _: (unit.path, None), bad)
        if bad and self.statement.combines:
            yield from self._left_out_pieces(engine, unit)
        [(count,)] = engine.rows("select count(*) from _result")
        # a part at a time, since the whole may not fit into memory
        for begin in range(0, count, ROWS_AT_A_TIME):
            end = begin + ROWS_AT_A_TIME
            part_of_result = engine.table(
                f"select * from _result where rowid >= {begin} and rowid < {end} order by rowid"
            )

            def origin(place: int, rows: pa.Table = part_of_result) -> Origin:
                file, line = self._file_and_line(rows, place, only)
                row = self._source_row(engine, ROWS, file, line) if file and line is not None else {}
                return Origin(unit.state_path(file) if file else unit.path, line, row)

            def path_and_line(place: int, rows: pa.Table = part_of_result) -> tuple[str, int | None]:
                file, line = self._file_and_line(rows, place, only)
                return unit.state_path(file) if file else unit.path, line

            kept = part_of_result.drop_columns([name for name in (FILE, LINE) if name in part_of_result.column_names])
            kept = kept.append_column(LINE, pa.array(np.arange(kept.num_rows), pa.int64()))
            for piece in self._contract_batches(kept.combine_chunks()):
                yield Piece(piece, origin, path_and_line)

    def _file_and_line(self, rows: pa.Table, place: int, only: str | None) -> tuple[str | None, int | None]:
        file = rows.column(FILE)[place].as_py() if FILE in rows.column_names else only
        return file, rows.column(LINE)[place].as_py() if LINE in rows.column_names else None

    def _left_out_pieces(self, engine: Engine, unit: Unit) -> Iterator[Piece]:
        """The rows that nothing is wrong with, in groups which are left out for another row: they wait in quarantine too, and come back with it."""
        members = select_left_out(engine, self.statement, engine.columns(ROWS))
        if members is None:
            return
        try:
            engine.execute(f"create or replace temp table _members as {members}")
        except Error:
            # a column of the origin's name, or the like: the groups stay left out, and the bad rows alone are named
            return
        engine.execute(
            f"create or replace temp table _members as select r.* from {ROWS} as r "
            f"join _members as m on r.{FILE} = m.{FILE_OF} and r.{LINE} = m.{LINE_OF} order by r.{FILE}, r.{LINE}"
        )
        [(count,)] = engine.rows("select count(*) from _members")
        for begin in range(0, count, ROWS_AT_A_TIME):
            rows = engine.table(
                f"select * from _members where rowid >= {begin} and rowid < {begin + ROWS_AT_A_TIME} order by rowid"
            ).to_pylist()
            bad = [
                (
                    Origin(
                        unit.state_path(row[FILE]),
                        row[LINE],
                        {k: v for k, v in row.items() if k not in (LINE, FILE, LOADED)},
                    ),
                    LEFT_OUT_REASON,
                )
                for row in rows
            ]
            yield Piece(_empty_batch(), lambda _: Origin(unit.path, None), lambda _: (unit.path, None), bad)

    def _exclude_bad_rows(self, engine: Engine, found: list[BadValue]) -> str:
        """The statement without the rows that stand on bad ones, which are taken out of the input."""
        part = self.input.parts[0]
        bad = pa.table(
            {LINE: pa.array([b.line for b in found], pa.int64()), FILE: pa.array([b.file for b in found], pa.string())}
        )
        engine.show("_bad", bad)
        selection = f"select r.* from {ROWS} as r where exists (select 1 from _bad as b where b._line = r._line and b._file = r._file)"
        engine.execute(f"create or replace temp table _bad_rows as {selection}")
        finder = Finder(engine, self.statement, ROWS, has_files=True)
        place = f"{found[0].file}, row {found[0].line}: {found[0].reason}"
        with selected_rows(engine, part.name, ROWS, "select * from _bad_rows"):
            text = exclude_groups(finder, engine.columns(ROWS), place)
        engine.execute(
            f"delete from {ROWS} as r where exists (select 1 from _bad as b where b._line = r._line and b._file = r._file)"
        )
        return text

    def _find_bad_rows(self, engine: Engine, rows: str, has_files: bool) -> list[BadValue]:
        return Finder(engine, self.statement, rows, has_files).find()

    def _source_row(self, engine: Engine, rows: str, file: str | None, line: int | None) -> Row:
        found = engine.table(
            f"select * exclude (_file, _line) from {rows} where _file = {literal(file)} and _line = {int(line or 0)} limit 1"
        ).to_pylist()
        return {name: value for name, value in found[0].items() if name != LOADED} if found else {}

    def _load_others(self, engine: Engine, unit: Unit) -> None:
        """Make tables of the further inputs, once for all units."""
        paths = tuple(f"{file.url} {file.fingerprint}" for files in unit.others.values() for file in files)
        if self._others == paths:
            return
        for part in self.input.parts[1:]:
            files = unit.others.get(part.name, [])
            if not files:
                raise NorthstarError(f"the input {part.name} has no files: there is no {' nor '.join(part.patterns)}")
            engine.store(part.name, self._raw_batches(unit, part, files))
        self._others = paths

    def _raw_batches(self, unit: Unit, part: Part, files: list[SourceFile]) -> Iterator[pa.RecordBatch]:
        for file in files:
            unit.readings[unit.state_path(file.path)] = own = reading(file, part.form)
            for batch in own.batches():
                yield self._with_origin(with_optional(batch, part), file.path, None)

    def _with_origin(self, raw: pa.RecordBatch, path: str, text: str | None) -> pa.RecordBatch:
        """A batch with `_file` and `_loaded_at`, where the statement's text names them."""
        count = raw.num_rows
        for name, value in ((FILE, pa.scalar(path)), (LOADED, pa.scalar(self.loaded_at, pa.timestamp("us", "UTC")))):
            if (text is None or name in text) and name not in raw.schema.names:
                raw = raw.append_column(name, pa.repeat(value, count))
        return raw

    def _contract_batches(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """The rows in batches, if they have the contract's columns. Raises NorthstarError for others."""
        names = [name for name in rows.column_names if name != LINE]
        strange = next((name for name in names if name not in self.entity.columns), None)
        if strange is not None:
            known = ", ".join(self.entity.columns)
            raise NorthstarError(
                f"the select gives a column {strange!r}, which {self.entity.name} does not have; it has {known}"
            )
        application = self.input.application
        if application and "application" in self.entity.columns and "application" not in names:
            rows = rows.append_column("application", pa.repeat(application, rows.num_rows))
        yield from rows.combine_chunks().to_batches()

    def _describe_error(self, exc: Exception) -> str:
        text = message(exc)
        if "not found in FROM clause" in text:
            name = text.partition('"')[2].partition('"')[0]
            assert self.engine is not None
            columns = [c for c in self.engine.columns(self.input.parts[0].name) if c not in (LINE, FILE, LOADED)]
            return f"the mapped column {name!r} is not in the file; it has {', '.join(columns[:12])}{hint_at_delimiter(columns)}"
        return f"does not fit: {self._name_column(text)}"

    def _name_column(self, text: str) -> str:
        """A message with the column whose own SQL cannot be run over the input, where there is one."""
        assert self.engine is not None
        for column, sql in self.input.column_sql.items():
            try:
                self.engine.rows(f"describe select ({sql}) from {quoted(self.input.parts[0].name)}")
            except Error as exc:
                return f"column {column}: {message(exc)}"
        return text


def _require_expressions(engine: Engine, column_sql: dict[str, str]) -> None:
    """Raise NorthstarError, naming the column, for SQL of a column that is no expression."""
    for column, sql in column_sql.items():
        if why := misread(engine, sql):
            raise NorthstarError(f"column {column}: {why}")


def with_optional(raw: pa.RecordBatch, part: Part) -> pa.RecordBatch:
    """A batch with the optional columns that its file lacks, as nulls."""
    for name in part.optional:
        if name not in raw.schema.names:
            raw = raw.append_column(name, pa.nulls(raw.num_rows, pa.string()))
    return raw


def _row(raw: pa.RecordBatch, line: int) -> Row:
    """The source's own row with a number."""
    place = pc.index(raw.column(LINE), pa.scalar(line, pa.int64())).as_py()
    if place < 0:
        return {}
    return {
        name: column[place].as_py()
        for name, column in zip(raw.schema.names, raw.columns, strict=True)
        if name not in (LINE, FILE, LOADED)
    }


def _empty_batch() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], pa.int64())], names=[LINE])


def require_columns(entity: Entity, names: list[str], file: SourceFile) -> None:
    """Raise FileFailed for a table that lacks a column of which every row needs a value. Records of json say their own names, row by row."""
    if is_readable(file.path) and kind_of(file) in ("jsonl", "json"):
        return
    for column in entity.columns.values():
        if column.required and column.name not in names:
            own = [name for name in names if name != LINE]
            hint = hint_at_delimiter(own) or _hint_at_name(column.name, own)
            raise FileFailed(file.path, f"the required column {column.name} is missing{hint}")


def _hint_at_name(wanted: str, names: list[str]) -> str:
    """The end of a message about a column that is not there: under which name it seems to be, or the names that are."""
    if not names:
        return "; add it to the file"
    if what := next((words for start, words in NO_CSV.items() if names[0].lstrip().startswith(start)), None):
        return f"; it seems to be {what}"
    alike = next((name for name in names if plain_name(name) == plain_name(wanted)), None)
    if alike is not None:
        return f"; it is written {alike}; write {wanted}, or rename it in a mapping"
    return f"; it has {_listed(names)}"


def _listed(names: list[str]) -> str:
    """Some names of columns, for a message. Without a header they are values, and those that may be personal are withheld."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(dict.fromkeys(quote_safely(name[:60]) for name in names[:8])) + more


def _require_any_column(entity: Entity, own: Reading) -> None:
    """Raise FileFailed for a file of json none of whose records has a column that all need, such as an envelope around them."""
    required = [column.name for column in entity.columns.values() if column.required]
    if own.kind not in ("jsonl", "json") or not required or set(required) & set(own.columns):
        return
    if own.envelope is not None:
        raise FileFailed(own.file.path, f"its records lie in {own.envelope!r}; deliver that list alone")
    named = f"no record has {', '.join(required[:3])} or another required column"
    raise FileFailed(own.file.path, f"{named}; they have {_listed(own.columns)}")
