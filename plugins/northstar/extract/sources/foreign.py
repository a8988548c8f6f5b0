"""Files in formats that only a mapping can ask for: lines with a pattern, of fixed width or between blanks, xml, and sheets of xlsx.

Each reading yields raw record batches of texts, as the readings of northstar.extract.sources.files do: a column for each of the file's own,
and `_line`, the number of the line (of the element, of the row) from 1. A line that does not fit is rejected with its number.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Literal
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from northstar.base.errors import FileFailed
from northstar.extract.sources.files import (
    BLOCK_BYTES,
    ROWS,
    CsvOptions,
    Reading,
    Rejected,
    SourceFile,
    open_file,
    read_lines,
)

Kind = Literal["csv", "jsonl", "parquet", "lines", "fixed", "blanks", "xml", "xlsx"]
# a cell of a sheet's xml with an error, and where a cell lies
ERROR_CELL = re.compile(rb"""\bt=["']e["']""")
REFERENCE = re.compile(r"([A-Z]+)(\d+)")
# a row: its number, and its values by column
Numbered = tuple[int, dict[str, str | None]]


@dataclass(frozen=True)
class Format:
    """How a file is written, where a mapping says so; kind None: as the ending of its name says.

    columns: the names, for files without a header. pattern: of `lines`, with a named group for each column. widths: of `fixed`, {column: (first,
    last)} in characters from 1. element: of `xml`. sheet: of `xlsx`; None is the first.
    """

    kind: Kind | None = None
    csv: CsvOptions = field(default_factory=CsvOptions)
    columns: tuple[str, ...] = ()
    pattern: str = ""
    widths: tuple[tuple[str, int, int], ...] = ()
    element: str = ""
    sheet: str | None = None
    skip_lines: int = 0


def reading(file: SourceFile, form: Format) -> Reading:
    """The reading of a file in a format."""
    kinds: dict[str, type[_Foreign]] = {
        "lines": _Pattern,
        "fixed": _Lines,
        "blanks": _Lines,
        "xml": _Xml,
        "xlsx": _Xlsx,
    }
    kind = form.kind or ("xlsx" if file.path.lower().endswith((".xlsx", ".xlsm", ".ods", ".xls")) else None)
    if kind in kinds:
        return kinds[kind](file, form.csv, form=form)
    return Reading(file, form.csv, named_kind=kind)


@dataclass
class _Foreign(Reading):
    form: Format = field(default_factory=Format)

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows: list[Numbered] = []
        size = 0
        for number, row in self._rows():
            rows.append((number, row))
            size += sum(len(value) for value in row.values() if value)
            if len(rows) >= ROWS or size >= BLOCK_BYTES:
                yield self._batch(rows)
                rows, size = [], 0
        if rows:
            yield self._batch(rows)

    def lines_of(self, ordinals: set[int]) -> dict[int, int]:
        """Nothing to translate: rows are numbered as the file has them."""
        return {}

    def _rows(self) -> Iterator[Numbered]:
        raise NotImplementedError

    def _batch(self, rows: list[Numbered]) -> pa.RecordBatch:
        self.columns = list(dict.fromkeys([*self.columns, *(name for _, row in rows for name in row)]))
        blanks = set(self.options.null_values)
        arrays = [
            pa.array(
                [None if (value := row.get(name)) is None or value in blanks else value for _, row in rows], pa.string()
            )
            for name in self.columns
        ]
        return pa.RecordBatch.from_arrays(
            [*arrays, pa.array([n for n, _ in rows], pa.int64())], names=[*self.columns, "_line"]
        )


class _Lines(_Foreign):
    """Lines of text, of fixed width or with runs of blanks between the values."""

    def _rows(self) -> Iterator[Numbered]:
        names: list[str] = list(self.form.columns)
        for number, line in self._lines():
            if self.form.kind == "blanks" and not names:
                names = line.split()
                continue
            if self.form.kind == "fixed":
                yield number, {name: line[first - 1 : last].strip() for name, first, last in self.form.widths}
                continue
            parts = line.split()
            if len(parts) == len(names):
                yield number, dict(zip(names, parts, strict=True))
            else:
                self.rejected.append(
                    Rejected(f"{len(parts)} values where there are {len(names)} columns", {"line": line}, number)
                )

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1."""
        encoding = self.options.encoding
        for number, raw in enumerate(read_lines(self.file), start=1):
            if number <= self.form.skip_lines:
                continue
            try:
                line = raw.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError as exc:
                raise FileFailed(
                    self.file.path, f"line {number} is not {encoding}; name its encoding in the mapping"
                ) from exc
            if number == 1:
                line = line.lstrip("\ufeff")
            if line.strip():
                yield number, line


class _Pattern(_Lines):
    """Lines that a regular expression takes apart, such as an access log's. RE2 matches it, in time that grows with the line alone."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's raw batches."""
        numbers: list[int] = []
        lines: list[str] = []
        size = 0
        for number, line in self._lines():
            numbers.append(number)
            lines.append(line)
            size += len(line)
            if len(lines) >= ROWS or size >= BLOCK_BYTES:
                yield self._matched(numbers, lines)
                numbers, lines, size = [], [], 0
        if lines:
            yield self._matched(numbers, lines)

    def _matched(self, numbers: list[int], lines: list[str]) -> pa.RecordBatch:
        parts = pc.extract_regex(pa.array(lines, pa.string()), self.form.pattern)
        is_matched = pc.is_valid(parts)
        for number, line, fits in zip(numbers, lines, is_matched.to_pylist(), strict=True):
            if not fits:
                self.rejected.append(Rejected("the line does not fit the pattern", {"line": line}, number))
        parts = parts.filter(is_matched)
        self.columns = [f.name for f in parts.type]
        blanks = pa.array(list(self.options.null_values), pa.string())
        arrays = [
            pc.if_else(pc.is_in(values, blanks), pa.scalar(None, pa.string()), values) for values in parts.flatten()
        ]
        return pa.RecordBatch.from_arrays(
            [*arrays, pa.array(numbers, pa.int64()).filter(is_matched)], names=[*self.columns, "_line"]
        )


class _Xml(_Foreign):
    """The elements of one name in an xml file: attributes and the texts of what lies below, `parent.child` for what lies deeper."""

    def _rows(self) -> Iterator[Numbered]:
        number = 0
        try:
            with open_file(self.file) as raw:
                for _, element in ElementTree.iterparse(raw, ("end",)):
                    if _tag(element) != self.form.element:
                        continue
                    number += 1
                    row: dict[str, str | None] = {}
                    _flatten(element, "", row)
                    yield number, row
                    # what has been read is not needed any more, and a file may be larger than memory
                    element.clear()
        except ElementTree.ParseError as exc:
            raise FileFailed(self.file.path, f"not valid xml: {exc}") from exc


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _flatten(element: ElementTree.Element, prefix: str, row: dict[str, str | None]) -> None:
    for name, value in element.attrib.items():
        row.setdefault(f"{prefix}{name.rpartition('}')[2]}", value)
    for child in element:
        name = f"{prefix}{_tag(child)}"
        text = (child.text or "").strip()
        if text:
            # an element that is there several times has all its texts, in their order
            row[name] = f"{row[name]}; {text}" if row.get(name) else text
        _flatten(child, f"{name}.", row)


class _Xlsx(_Foreign):
    """A sheet of a workbook; the first row that is not blank names its columns, unless the mapping does."""

    def _rows(self) -> Iterator[Numbered]:
        # a few milliseconds that only workbooks need
        from python_calamine import CalamineError, CalamineWorkbook

        with open_file(self.file) as raw:
            content = io.BytesIO(raw.read())
        try:
            book = CalamineWorkbook.from_filelike(content)
            names = book.sheet_names
            sheet = self.form.sheet if self.form.sheet is not None else names[0]
            if sheet not in names:
                raise FileFailed(self.file.path, f"it has no sheet {sheet!r}; it has {', '.join(names[:12])}")
            rows = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
            errors = _error_cells(content, names.index(sheet))
        except CalamineError as exc:
            raise FileFailed(self.file.path, f"not a workbook that can be read: {exc}") from exc
        header: list[str] = list(self.form.columns)
        for number, cells in enumerate(rows, start=1):
            values = [_cell(cell) for cell in cells]
            for place, text in errors.get(number, ()):
                values += [None] * (place + 1 - len(values))
                values[place] = text
            if number <= self.form.skip_lines or not any(values):
                continue
            if not header:
                header = self._clean_names([value or f"column_{place}" for place, value in enumerate(values, start=1)])
                continue
            yield number, dict(zip(header, values, strict=False))


def _error_cells(content: io.BytesIO, sheet: int) -> dict[int, list[tuple[int, str]]]:
    """{row from 1: [(column from 0, error)]} of the cells with an error such as #N/A, which the reader of workbooks takes for empty.

    sheet: its place in the workbook. Nothing for workbooks of another format than xlsx.
    """
    errors: dict[int, list[tuple[int, str]]] = {}
    try:
        with zipfile.ZipFile(content) as book:
            sheets = ElementTree.fromstring(book.read("xl/workbook.xml")).iter()
            place = [s for s in sheets if _tag(s) == "sheet"][sheet]
            relation = next(value for name, value in place.attrib.items() if name.endswith("}id"))
            targets = {
                r.get("Id"): r.get("Target", "")
                for r in ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))
            }
            target = targets[relation]
            xml = book.read(target.removeprefix("/") if target.startswith("/") else f"xl/{target}")
    except (zipfile.BadZipFile, KeyError, IndexError, StopIteration, ElementTree.ParseError):
        return errors
    if not ERROR_CELL.search(xml):
        return errors
    for _, cell in ElementTree.iterparse(io.BytesIO(xml), ("end",)):
        if _tag(cell) != "c":
            continue
        reference = REFERENCE.fullmatch(cell.get("r", ""))
        if cell.get("t") == "e" and reference:
            column = 0
            for letter in reference[1]:
                column = 26 * column + ord(letter) - 64
            text = next((part.text or "" for part in cell if _tag(part) == "v"), "")
            errors.setdefault(int(reference[2]), []).append((column - 1, text))
        cell.clear()
    return errors


def _cell(value: object) -> str | None:
    """A cell's value as a text. A sheet has no whole numbers: 3 is kept there as 3.0."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    return str(value)


def check_pattern(pattern: str) -> None:
    """Raise ValueError for a pattern that RE2 does not understand, or that names no column."""
    try:
        parts = pc.extract_regex(pa.array([""], pa.string()), pattern)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise ValueError(f"the pattern is not understood: {' '.join(str(exc).split())[:160]}") from exc
    if not parts.type.num_fields:
        raise ValueError("the pattern names no column; write (?P<name>...) for each")
