"""How a file of unknown make is written, and its first rows: encoding, delimiter, header and marks of numbers, told from its content."""

import csv
import io
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from northstar.base.errors import FileFailed, NorthstarError
from northstar.extract.landing.short_form import Spec
from northstar.extract.sources.files import DAMAGED, DELIMITERS, CsvOptions, SourceFile, open_file
from northstar.extract.sources.foreign import Format, reading
from northstar.extract.sources.packed import compression_of, format_of

# how much of a file, and how many of its rows, are looked at
BYTES, ROWS, LINES = 1 << 20, 1_000, 100
WORKBOOKS = (".xlsx", ".xlsm", ".ods", ".xls")
# a number with a comma or a point, and what stands around it in amounts
COMMA = re.compile(r"[^\d]*\d{1,3}(?:\.\d{3})*,\d{1,2}[^\d]*|[^\d]*\d+,\d{1,2}[^\d]*")
POINT = re.compile(r"[^\d]*\d{1,3}(?:,\d{3})*\.\d+[^\d]*|[^\d]*\d+\.\d+[^\d]*")
LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$")
NUMBER = re.compile(r"[+-]?[\d.,]+")


@dataclass
class Sample:
    """A file's first rows. columns: {name: its values, as texts}. spec: the parts of an input that say how the file is written.

    notes: what was told from the content and may be wrong. problem: why the file cannot be read, or "".
    """

    path: str
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    spec: Spec = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def decimal(self) -> str:
        """The mark between a number's whole and its part."""
        return str(self.spec.get("csv", {}).get("decimal", "."))


def sample(file: SourceFile) -> Sample:
    """The first rows of a file. A file that cannot be read has a problem and no columns."""
    found, name = Sample(file.path), _bare(file.path)
    try:
        if name.endswith((".parquet", *WORKBOOKS)):
            form = Format()
        elif name.endswith(".xml"):
            found.problem = "xml: say `xml: {element: NAME}`, the element that is a row"
            return found
        else:
            form = _text_form(file, found)
        for batch in reading(file, form).batches():
            rows = batch.slice(0, ROWS).drop_columns(["_line"])
            found.columns = {name: _texts(values) for name, values in zip(rows.schema.names, rows.columns, strict=True)}
            break
    except FileFailed as exc:
        found.problem = exc.reason
    except NorthstarError as exc:
        found.problem = str(exc)
    except (OSError, *DAMAGED) as exc:
        found.problem = f"cannot be read: {exc}"
    if not found.columns and not found.problem:
        found.problem = "no rows"
    _note_marks(found, name)
    return found


def _bare(path: str) -> str:
    """A path without the ending that says how it is compressed."""
    return path.lower().removesuffix(compression_of(path) or "")


def _texts(values: pa.Array) -> list[str | None]:
    """The values as texts. Arrow writes even the times that Python cannot represent."""
    try:
        texts: list[str | None] = values.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return [None if value is None else str(value) for value in values.to_pylist()]
    return texts


def _text_form(file: SourceFile, found: Sample) -> Format:
    with open_file(file) as raw:
        start = raw.read(BYTES)
    encoding = _encoding(start)
    text = start.decode(encoding, errors="replace").lstrip("\ufeff")
    if text.lstrip().startswith("{"):
        if not _bare(file.path).endswith(".jsonl"):
            found.spec["format"] = "jsonl"
        return Format("jsonl")
    if text.lstrip().startswith("[") and format_of(file.path) == "json":
        return Format()
    if text.lstrip().startswith("["):
        raise NorthstarError("a JSON array: name the file .json")
    # splitlines() would end lines at characters that csv does not
    lines = [match[0] for match in itertools.islice(LINE.finditer(text), LINES)]
    delimiter = max(DELIMITERS, key=lambda mark: (_width(lines, mark), -DELIMITERS.index(mark)))
    records = list(csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter))
    width = _width(lines, delimiter)
    skipped = next((n for n, record in enumerate(records) if len(record) == width), 0)
    own: Spec = {}
    if delimiter != ",":
        own["delimiter"] = delimiter
    if encoding != "utf-8":
        own["encoding"] = encoding
        if encoding == "cp1252":
            found.notes.append("not UTF-8: cp1252 is taken, as Windows writes it")
    if skipped:
        own["skip_lines"] = skipped
        found.notes.append(f"{skipped} lines above the header are left out")
    first = records[skipped] if records else []
    names: tuple[str, ...] = ()
    if first and not _is_header(first):
        names = tuple(f"column_{n}" for n in range(1, len(first) + 1))
        own |= {"header": False, "names": list(names)}
        found.notes.append("the first line looks like values, not names: the columns are numbered")
    if own or not _bare(file.path).endswith(".csv"):
        found.spec["csv"] = own or {"delimiter": ","}
    options = CsvOptions(delimiter, encoding, skip_lines=skipped, columns=names)
    return Format("csv", options)


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        # the last character may be cut
        start[: max(len(start) - 3, 0) if len(start) == BYTES else len(start)].decode("utf-8")
    except UnicodeDecodeError as exc:
        if len(start) < BYTES or exc.start < len(start) - 4:
            return "cp1252"
    return "utf-8"


def _width(lines: list[str], delimiter: str) -> int:
    """The number of fields that most records have."""
    counts = Counter(len(record) for record in csv.reader(lines, delimiter=delimiter) if record)
    return counts.most_common(1)[0][0] if counts else 0


def _is_header(record: list[str]) -> bool:
    names = [name.strip() for name in record]
    return (
        all(names)
        and len(set(names)) == len(names)
        and not any(NUMBER.fullmatch(n) or re.match(r"\d{4}-\d\d-\d\d", n) or "@" in n for n in names)
    )


def _note_marks(found: Sample, name: str) -> None:
    """Note that numbers have a comma, where more of them have one than a point."""
    if name.endswith((".parquet", *WORKBOOKS)) or found.spec.get("format") == "jsonl" or name.endswith(".jsonl"):
        return
    values = [value.strip() for values in found.columns.values() for value in values if value and len(value) < 30]
    commas, points = (sum(bool(form.fullmatch(value)) for value in values) for form in (COMMA, POINT))
    if commas > points:
        own = found.spec.setdefault("csv", {})
        own["decimal"] = ","
        if any(re.search(r"\d\.\d{3},", value) for value in values):
            own["thousands"] = "."
    elif any(re.search(r"\d,\d{3}\.\d", value) for value in values):
        found.spec.setdefault("csv", {})["thousands"] = ","
