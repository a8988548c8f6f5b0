"""The `files` connector: csv, tsv, jsonl (or ndjson), json and parquet files below a local directory or an fsspec URL, as they are or compressed.

    system: files
    connection: lake            # only for a store with credentials: an Airflow connection of type aws, google_cloud_platform or wasb
    options: {path: s3://lake/export, mapping: /etc/northstar/lake.yml}     # mapping: only for files of another layout

Files whose path begins with . or _ anywhere below the directory are no deliveries: writers keep there what is not finished.

A file is read as a stream of raw record batches: the file's own columns (text for csv and jsonl, typed for parquet) and
`_line`, the record's ordinal among the well-formed ones. Memory is bounded by the block size, whatever the file's size.
"""

import codecs
import contextlib
import csv
import io
import json
import logging
import lzma
import os
import re
import string
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from northstar.base import exact_json
from northstar.base.errors import FileFailed, NorthstarError, SourceDown
from northstar.base.third_parties import explain_unreadable, has_no_rows
from northstar.connections.find import Connection
from northstar.contract import entities
from northstar.extract.sources import archives
from northstar.extract.sources.declared import Source
from northstar.extract.sources.packed import (
    compression_of,
    format_of,
    is_hidden,
    is_readable,
    is_tabbed,
    unpacked,
)
from northstar.privacy.personal import quote_safely

# goes up when the same file would make other rows, here or in landing's casts and checks; then all files are read again. What concerns some of
# them has a sign of its own: the contract's columns, the mapping, READING of northstar.extract.landing.engine
READING = 4
BLOCK_BYTES = 4 << 20
# a file that was not written to for so long is finished: no writer takes longer for a line
SETTLED_SECONDS = 30
# Python's own reader gives up at 128 KB; no field is longer than a block
csv.field_size_limit(BLOCK_BYTES)
# the largest batch, in rows and in bytes
ROWS, BATCH_BYTES = 65_536, 16 << 20
# where JSON keys are values (an id, a day), each record brings new columns: a batch with more than MANY_KEYS of them ends at CELLS,
# keys times records
MANY_KEYS, CELLS = 500, 500_000
# small objects of a store are fetched many at a time, since each open costs a round trip or two: the largest of them, and the most
# bytes and files at a time
SMALL_BYTES, FETCHED_BYTES, FETCHED_FILES = 1 << 20, 64 << 20, 200
ENTITIES = tuple(entities())
OPTIONS = {"path", "mapping"}
# what stands for the name of a column that has none, before its number
NAMELESS = "column "
# the marks that csv files have between values
DELIMITERS = ",;\t|"
SPACE = re.compile(r"\s*")
# what is wrong with a compressed file
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
# how a compressed file begins, and with what it is made
COMPRESSED = {
    ".gz": (b"\x1f\x8b", "gzip"), ".bz2": (b"BZh", "bzip2"), ".xz": (b"\xfd7zXZ", "xz"), ".zst": (b"\x28\xb5\x2f\xfd", "zstd"),
}  # fmt: skip
UTF_16 = "it seems to be UTF-16; deliver it as UTF-8, or write `csv: {encoding: utf-16}` in a mapping"
# what the first bytes of a file that is no text say
SIGNS = {
    b"\xff\xfe\x00\x00": "it seems to be UTF-32; deliver it as UTF-8, or write `csv: {encoding: utf-32}` in a mapping",
    b"\x00\x00\xfe\xff": "it seems to be UTF-32; deliver it as UTF-8, or write `csv: {encoding: utf-32}` in a mapping",
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"PK\x03\x04": "it is a zip archive or a sheet of Excel; let its name say so",
    b"PAR1": "it is a parquet file; let its name say so",
    **{sign: f"it is compressed with {program}; let its name end with {suffix}" for suffix, (sign, program) in COMPRESSED.items()},
}  # fmt: skip
# around names, and seen by nobody: blanks, marks of width and direction, a soft hyphen
INVISIBLE = string.whitespace + "\xa0\xad\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"
LOCAL = "file://"
# what fsspec needs to reach a store, besides its address: each store has arguments of its own
Storage = dict[str, Any]
# the folder of a home that `make run` writes its demonstration company to
DEMONSTRATION = "demo"


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: where it is, and a fingerprint that shows whether it changed."""

    path: str
    url: str
    size: int
    fingerprint: str
    # when its content or its name last changed; "" where the store only has a time that a writer can set
    changed: str = ""
    # what fsspec needs besides the address (credentials), and the content where it has been fetched already
    storage: Storage = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    # how many bytes to read where the last line is not finished yet; None: all
    finished_bytes: int | None = None
    # the name of the file in the archive at `url`, where it holds several
    member: str | None = None


@dataclass
class Rejected:
    """A record that is not well-formed, with as many of its fields as could be recognised."""

    reason: str
    row: dict[str, object]
    line: int | None = None


@dataclass
class CsvOptions:
    """How a csv file is written."""

    delimiter: str = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("",)
    # None: quotation marks are characters like others
    quote: str | None = '"'
    # lines above the header, or above the first record where `columns` names them
    skip_lines: int = 0
    columns: tuple[str, ...] = ()
    # the marks in numbers, for the mapping's number()
    decimal: str = "."
    thousands: str = ""


@dataclass
class Reading:
    """One pass over a file: `batches` yields the raw batches, `rejected` fills while they are consumed."""

    file: SourceFile
    options: CsvOptions = field(default_factory=CsvOptions)
    rejected: list[Rejected] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    ragged: int = 0
    # the name under which the first record of json has a list of records
    envelope: str | None = None
    # the format where its file's ending does not say it
    named_kind: str | None = None

    @property
    def kind(self) -> str:
        return self.named_kind or kind_of(self.file)

    @property
    def delimiter(self) -> str:
        is_default = self.options.delimiter == CsvOptions.delimiter
        return "\t" if is_default and is_tabbed(_content_name(self.file)) else self.options.delimiter

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's raw batches.

        Raises NorthstarError, naming the file, when it cannot be read as the format that its name says.
        """
        name = self.file.path
        try:
            readers = {"csv": self._csv, "jsonl": self._jsonl, "json": self._json, "parquet": self._parquet}
            yield from readers[self.kind]()
        except DAMAGED as exc:
            raise FileFailed(name, _why_damaged(self.file)) from exc
        except UnicodeDecodeError as exc:
            what = (
                self._seems_to_be()
                or f"not {exc.encoding} at byte {exc.start}; deliver it as UTF-8, or name its encoding in a mapping"
            )
            raise FileFailed(name, what) from exc
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError) as exc:
            raise FileFailed(name, f"{explain_unreadable(exc, self.options.encoding, BLOCK_BYTES)}") from exc

    def _seems_to_be(self) -> str | None:
        """What the first bytes of a file say that it is, and what to do; None where they say nothing."""
        if self.kind == "parquet":
            return None
        with open_file(self.file) as raw:
            start = raw.read(1 << 10)
        if signed := next((what for sign, what in SIGNS.items() if start.startswith(sign)), None):
            return signed
        if start[257:262] == b"ustar":
            return "it is a tar archive; deliver its files themselves, or a zip archive"
        # Latin letters in two bytes each
        few, many = sorted(half.count(0) / max(1, len(half)) for half in (start[0::2], start[1::2]))
        if few < 0.1 and many > 0.5:
            return UTF_16
        return None

    def lines_of(self, ordinals: set[int]) -> dict[int, int]:
        """Physical line numbers (1-based) of well-formed csv records by ordinal; other formats count lines as they go."""
        if self.kind in ("jsonl", "json"):
            return {}
        if self.kind == "parquet" or not (ordinals or self.ragged):
            return {ordinal: ordinal + 1 for ordinal in ordinals}
        line_numbers: dict[int, int] = {}
        ordinal, previous, last = 0, 0, max(ordinals, default=-1)
        header: list[str] | None = None
        ragged: list[tuple[int, int, list[str]]] = []
        with (
            self._explained_csv_errors(),
            open_file(self.file) as raw,
            io.TextIOWrapper(raw, self.options.encoding, errors="replace", newline="") as text,
        ):
            for _ in range(self.options.skip_lines):
                text.readline()
            if self.options.columns:
                header = self.columns
            reader = csv.reader(text, self._dialect())
            for record in reader:
                lines = reader.line_num - previous
                line, previous = previous + 1 + self.options.skip_lines, reader.line_num
                if not record:
                    continue
                if header is None:
                    # the cleaned names: behind a byte order mark, the name of a personal column would not be recognised
                    header = self.columns
                elif len(record) != len(header):
                    ragged.append((line, lines, record))
                else:
                    if ordinal in ordinals:
                        line_numbers[ordinal] = line
                    ordinal += 1
                if ordinal > last and len(ragged) >= self.ragged:
                    break
        for line, lines, record in ragged[: self.ragged]:
            reason = f"{len(record)} fields where the header has {len(header or [])}"
            if lines > 1:
                reason += f", over {lines:,} lines: is a quotation mark not closed?"
            self.rejected.append(Rejected(reason, dict(zip(header or [], record, strict=False)), line))
        return line_numbers

    def _csv(self) -> Iterator[pa.RecordBatch]:
        names = self._header()
        self.columns = self._clean_names(names)
        if not self.columns:
            return
        if not self.options.columns:
            self._check_header(names)
        utf8 = self.options.encoding.lower().replace("_", "-") in ("utf-8", "utf8")
        with open_file(self.file) as raw:
            try:
                reader = pa_csv.open_csv(
                    pa.PythonFile(_Utf8(raw) if utf8 else raw, mode="r"),
                    read_options=pa_csv.ReadOptions(
                        block_size=BLOCK_BYTES,
                        use_threads=False,
                        encoding="utf8" if utf8 else self.options.encoding,
                        skip_rows=self.options.skip_lines,
                        column_names=list(self.options.columns) or None,
                    ),
                    parse_options=pa_csv.ParseOptions(
                        delimiter=self.delimiter,
                        quote_char=self.options.quote or False,
                        newlines_in_values=True,
                        invalid_row_handler=self._skip,
                    ),
                    convert_options=pa_csv.ConvertOptions(
                        column_types={name: pa.string() for name in names},
                        null_values=list(self.options.null_values),
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=True,
                    ),
                )
            except pa.ArrowInvalid as exc:
                if has_no_rows(exc):
                    # no line after the header, nor an end of that
                    return
                raise
            if len(reader.schema.names) != len(names):
                raise FileFailed(self.file.path, "its header is not understood; write the names in one line")
            yield from map(_without_nameless, _number_rows(reader, self.columns))

    def _check_header(self, names: list[str]) -> None:
        """Raise FileFailed for a first line that is no header of names."""
        if names[0].lower().startswith("sep="):
            mark = names[0][4:5] or self.delimiter
            what = f"its first line is Excel's sep={mark}; remove it, or write `csv: {{skip_lines: 1}}` in a mapping"
            raise FileFailed(self.file.path, what)
        if any("\x00" in name for name in names) and (other := self._seems_to_be()):
            raise FileFailed(self.file.path, other)

    def _skip(self, row: object) -> str:
        self.ragged += 1
        return "skip"

    def _header(self) -> list[str]:
        """The names in the header, as they are written there; the mapping's where the file has none."""
        if self.options.columns:
            return list(self.options.columns)
        with open_file(self.file) as raw, self._explained_csv_errors():
            start = raw.read(BLOCK_BYTES).decode(self.options.encoding, errors="replace").lstrip("\ufeff")
            text = io.StringIO(start, newline="")
            for _ in range(self.options.skip_lines):
                text.readline()
            return next((record for record in csv.reader(text, self._dialect()) if record), [])

    @contextlib.contextmanager
    def _explained_csv_errors(self) -> Iterator[None]:
        """Raises FileFailed for what Python's reader raises: a field that is longer than its limit."""
        try:
            yield
        except csv.Error as exc:
            what = f"a value is longer than {BLOCK_BYTES >> 20} MB, or a quote is never closed; repair the file"
            raise FileFailed(self.file.path, what) from exc

    def _dialect(self) -> type[csv.Dialect]:
        """How Python's reader has to read the file."""
        options, chosen_delimiter = self.options, self.delimiter

        class Dialect(csv.excel):
            delimiter = chosen_delimiter
            quoting = csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE
            quotechar = options.quote

        return Dialect

    def _clean_names(self, names: list[str]) -> list[str]:
        """The columns' names, cleaned. Raises NorthstarError when two are the same."""
        cleaned = [_clean_name(name) for name in names]
        if cleaned.count("") > 1:
            # spreadsheets save empty columns too
            cleaned = [name or f"{NAMELESS}{number}" for number, name in enumerate(cleaned, 1)]
        repeated = (
            sorted({name for name in cleaned if cleaned.count(name) > 1}) if len(set(cleaned)) < len(cleaned) else []
        )
        if repeated:
            raise FileFailed(
                self.file.path,
                f"the header names column {quote_safely(repeated[0][:100])!r} twice; give each its own name, or `names` in a mapping "
                "where the first line is no header",
            )
        return cleaned

    def _jsonl(self) -> Iterator[pa.RecordBatch]:
        lines = enumerate(read_lines(self.file), start=1)
        return self._records((n, line.removeprefix(codecs.BOM_UTF8) if n == 1 else line) for n, line in lines)

    def _json(self) -> Iterator[pa.RecordBatch]:
        """The records of a json file: the elements of its array, its only object, or its lines."""
        with open_file(self.file) as raw:
            start = raw.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
        if len(start) < BLOCK_BYTES and not _is_json(start.partition(b"\n")[0]) and _is_json(start):
            return self._records([(1, start)])
        return self._records(enumerate(self._elements(), start=1)) if start.startswith(b"[") else self._jsonl()

    def _elements(self) -> Iterator[bytes]:
        """The elements of a JSON array, one at a time. Raises FileFailed for what is none, and for an element of many MB."""
        decoder, count, place = json.JSONDecoder(), 0, 0
        with open_file(self.file) as raw, io.TextIOWrapper(raw, "utf-8-sig") as text:
            buffer = text.read(BLOCK_BYTES).lstrip()[1:]
            while True:
                begin = _after_space(buffer, place)
                if buffer.startswith("]", begin):
                    if (buffer[begin + 1 :] + text.read(BLOCK_BYTES)).strip():
                        raise FileFailed(self.file.path, f"after its array of {count} records comes something else")
                    return
                is_next = not count or buffer.startswith(",", begin)
                if count and is_next:
                    begin = _after_space(buffer, begin + 1)
                try:
                    end = decoder.raw_decode(buffer, begin)[1] if is_next else len(buffer)
                except RecursionError as exc:
                    raise FileFailed(self.file.path, f"record {count + 1} is nested too deep") from exc
                except ValueError:
                    end = len(buffer)
                if end < len(buffer):
                    yield buffer[begin:end].encode()
                    place, count = end, count + 1
                    continue
                more = text.read(BLOCK_BYTES)
                if not more or len(buffer) - begin > BLOCK_BYTES:
                    raise FileFailed(
                        self.file.path,
                        f"its array is damaged or cut short after {count} records, or the next has more than {BLOCK_BYTES >> 20} MB; repair the file",
                    )
                buffer, place = buffer[place:] + more, 0

    def _records(self, found: Iterable[tuple[int, bytes]]) -> Iterator[pa.RecordBatch]:
        """Batches of JSON objects, which come with their ordinals."""
        records: list[dict[str, str | None]] = []
        lines: list[int] = []
        names: set[str] = set()
        size = 0
        for ordinal, line in found:
            if not line.strip():
                continue
            try:
                record = exact_json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                if ordinal == 1:
                    self.envelope = next((name for name, value in record.items() if _is_list_of_records(value)), None)
                record = {name: _text(value) for name, value in record.items()}
            except ValueError as exc:
                self.rejected.append(Rejected(f"not a JSON object: {str(exc).split(':')[0]}", {}, ordinal))
                continue
            except TypeError:
                self.rejected.append(Rejected("not a JSON object: nested too deep", {}, ordinal))
                continue
            records.append(record)
            lines.append(ordinal)
            names.update(record)
            size += len(line)
            if (
                len(records) >= ROWS
                or size >= BATCH_BYTES
                or (len(names) > MANY_KEYS and len(records) * len(names) > CELLS)
            ):
                yield self._record_batch(records, lines)
                records, lines, names, size = [], [], set(), 0
        if records:
            yield self._record_batch(records, lines)

    def _record_batch(self, records: list[dict[str, str | None]], lines: list[int]) -> pa.RecordBatch:
        spellings_by_name: dict[str, list[str]] = {}
        for name in dict.fromkeys(name for record in records for name in record):
            spellings_by_name.setdefault(_clean_name(name), []).append(name)
        names = list(spellings_by_name)
        self.columns = list(dict.fromkeys([*self.columns, *names]))
        arrays = [pa.array([_first_value(r, spellings) for r in records] if len(spellings) > 1 else [r.get(spellings[0]) for r in records], pa.string())
                  for spellings in spellings_by_name.values()]  # fmt: skip
        return pa.RecordBatch.from_arrays([*arrays, pa.array(lines, pa.int64())], names=[*names, "_line"])

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        with open_file(self.file) as raw:
            # with pre_buffer the column chunks of the whole file would be held in memory
            file = pq.ParquetFile(raw, pre_buffer=False, buffer_size=BLOCK_BYTES)
            for kind in file.schema_arrow.types:
                # Arrow does not check the name of a time zone before it is read, so it is read here
                getattr(getattr(kind, "value_type", kind), "tz", None)
            self.columns = self._clean_names(file.schema_arrow.names)
            groups = ((g, file.metadata.row_group(g)) for g in range(file.num_row_groups))
            batches = (batch for g, group in groups for batch in file.iter_batches(_batch_rows(group), row_groups=[g]))
            yield from _number_rows(map(_validate, batches), self.columns)


def _number_rows(batches: Iterable[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
    ordinal = 0
    for batch in batches:
        count = batch.num_rows
        if count:
            numbers = pa.array(np.arange(ordinal, ordinal + count))
            yield pa.RecordBatch.from_arrays([*batch.columns, numbers], names=[*names, "_line"])
        ordinal += count


def hint_at_delimiter(columns: list[str]) -> str:
    """The end of a message about columns that are not there: which delimiter a file of only one column seems to have; "" for other files."""
    found = [mark for mark in DELIMITERS if len(columns) == 1 and mark in columns[0]]
    if not found:
        return ""
    mark = max(found, key=columns[0].count)
    return f"; the file looks delimited by {mark!r}: write `csv: {{delimiter: {json.dumps(mark)}}}` in its mapping"


def _after_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return found.end() if found else place


def _without_nameless(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch without columns that have neither a name nor a value: they are nothing."""
    kept = [
        name
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if not (name == "" or name.startswith(NAMELESS)) or column.null_count < len(column)
    ]
    return batch.select(kept) if len(kept) < batch.num_columns else batch


def _is_list_of_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _first_value(record: dict[str, str | None], names: list[str]) -> str | None:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _clean_name(name: str) -> str:
    """A column's name without invisible characters. A file's own `_line` is renamed, since that name is ours."""
    name = name.replace("\x00", "").strip().strip(INVISIBLE)
    return "_line_" if name == "_line" else name


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    rows: int = max(1, min(ROWS, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
    return rows


def _validate(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself. Raises ArrowInvalid when its text is not UTF-8, which Arrow's other functions do not check."""
    batch.validate(full=True)
    return batch


class _Utf8(io.RawIOBase):
    """A stream of bytes that raises UnicodeDecodeError for bytes that are not UTF-8, before a parser interprets them."""

    def __init__(self, raw: IO[bytes]):
        self._raw, self._decoder, self._place = raw, codecs.getincrementaldecoder("utf-8")(), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; b"" at the end."""
        data = self._raw.read(size)
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as exc:
            place = self._place - pending + exc.start
            raise UnicodeDecodeError("utf-8", b"", place, place + 1, exc.reason) from None
        self._place += len(data)
        return data


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return exact_json.dumps(value)


def kind_of(file: SourceFile) -> str:
    """A file's format (see format_of). Raises FileFailed for an archive that holds no readable file, or several."""
    kind = format_of(_content_name(file))
    if kind is None:
        raise FileFailed(file.path, f"{_content_name(file)[-100:]!r} in it is no csv, tsv, jsonl, ndjson or json")
    return kind


def _content_name(file: SourceFile) -> str:
    """The name that says the format: the file's own, or that of the file in an archive."""
    if format_of(file.path) is not None or not archives.is_archive(file.path):
        return file.path
    with _open_raw(file) as raw:
        return archives.open_member(raw, file.path, None)[1]


def open_file(file: SourceFile) -> IO[bytes]:
    """The file's bytes, without its compression."""
    raw = _open_raw(file)
    if file.member is None and not archives.is_archive(file.path):
        return unpacked(raw, file.path)
    return unpacked(*archives.open_member(raw, archives.split(file.path)[0], file.member))


def _open_raw(file: SourceFile) -> IO[bytes]:
    # fsspec's files, and ours, are read as any file of bytes, which none of their types says
    return cast(IO[bytes], _open_stream(file))


def _open_stream(file: SourceFile) -> object:
    if file.content is not None:
        return io.BytesIO(file.content)
    if file.url.startswith(LOCAL):
        # a link that replaced the file after the listing is not followed
        raw = open(file.url.removeprefix(LOCAL), "rb", opener=_open_without_links)  # noqa: SIM115
        return raw if file.finished_bytes is None else _Beginning(raw, file.finished_bytes)
    return fsspec.open(file.url, "rb", **file.storage).open()


class _Beginning(io.RawIOBase):
    """The first bytes of a file that somebody may still be writing."""

    def __init__(self, raw: IO[bytes], size: int):
        self._raw, self._left = raw, size

    def readable(self) -> bool:
        return True

    # Any: a buffer of whatever kind, of which no type says that it has a length
    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what is left; returns the number of bytes."""
        data = self._raw.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


def without_unfinished_line(file: SourceFile, now: float | None = None) -> SourceFile:
    """The file without a last line that its writer may not have finished: a line without a line end, in a file that was just written to.

    A line that is valid JSON is finished. Object stores show whole files only, and a compressed or parquet file that is cut short fails
    when it is read.
    """
    kind = format_of(file.path)
    if (
        file.member is not None
        or not file.url.startswith(LOCAL)
        or file.content is not None
        or compression_of(file.path)
        or kind == "parquet"
    ):
        return file
    with open(file.url.removeprefix(LOCAL), "rb", opener=_open_without_links) as raw:
        status = os.fstat(raw.fileno())
        if kind == "json" and raw.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            # an array that is not finished is an error when it is read
            return file
        if not status.st_size or (now or time.time()) - status.st_mtime >= SETTLED_SECONDS:
            return file
        end, tail = status.st_size, b""
        while b"\n" not in tail and end:
            begin = max(0, end - BLOCK_BYTES)
            raw.seek(begin)
            tail, end = raw.read(end - begin) + tail, begin
    line = tail[tail.rfind(b"\n") + 1 :]
    if not line or (kind != "csv" and _is_json(line)):
        return file
    return replace(file, finished_bytes=status.st_size - len(line), fingerprint=f"{file.fingerprint} in writing")


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def read_lines(file: SourceFile) -> Iterator[bytes]:
    """The lines of a jsonl file. Raises NorthstarError, naming the file, for a line of many MB, and for a damaged file."""
    try:
        with open_file(file) as raw:
            stream = io.BufferedReader(raw, 1 << 20) if isinstance(raw, io.RawIOBase) else raw
            while line := stream.readline(BLOCK_BYTES + 1):
                if len(line) > BLOCK_BYTES:
                    raise FileFailed(file.path, f"a line is longer than {BLOCK_BYTES >> 20} MB; split or drop it")
                yield line
    except DAMAGED as exc:
        raise FileFailed(file.path, _why_damaged(file)) from exc


def _why_damaged(file: SourceFile) -> str:
    sign, program = COMPRESSED.get(compression_of(file.path) or "", (b"", ""))
    if file.member is None:
        with _open_raw(file) as raw:
            if not raw.read(len(sign)).startswith(sign):
                return f"it is not compressed with {program}, as its name says"
    return "the compressed file is cut short or damaged; deliver it again"


def with_content(files: list[SourceFile]) -> Iterator[SourceFile]:
    """The files in their order. Small files of a store come with their content: many are fetched at once, a bounded number ahead."""
    small_files: list[SourceFile] = []
    for file in files:
        if file.url.startswith(LOCAL) or file.size > SMALL_BYTES:
            yield from _fetch(small_files)
            small_files = []
            yield file
            continue
        small_files.append(file)
        if len(small_files) >= FETCHED_FILES or sum(f.size for f in small_files) > FETCHED_BYTES:
            yield from _fetch(small_files)
            small_files = []
    yield from _fetch(small_files)


def _fetch(files_to_fetch: list[SourceFile]) -> Iterator[SourceFile]:
    if not files_to_fetch:
        return
    system, _ = fsspec.core.url_to_fs(files_to_fetch[0].url, **files_to_fetch[0].storage)
    paths = [system._strip_protocol(f.url) for f in files_to_fetch]
    contents = system.cat(paths, on_error="return")
    for file, path in zip(files_to_fetch, paths, strict=True):
        content = contents.get(path)
        # a file that could not be fetched is opened on its own later, and that error says why
        yield replace(file, content=content) if isinstance(content, bytes) else file


def storage_options(connection: Connection) -> Storage:
    """What fsspec needs to reach a store with an Airflow connection (of type aws, google_cloud_platform or wasb)."""
    extra = connection.extra
    if connection.kind == "aws":
        client = {k: extra[k] for k in ("endpoint_url", "region_name") if extra.get(k)}
        return {
            "key": connection.login,
            "secret": connection.password,
            "token": extra.get("aws_session_token"),
            "client_kwargs": client,
        }
    if connection.kind == "google_cloud_platform":
        # an experiment of gcsfs asks each bucket for its kind over gRPC, and waits a minute where only REST answers
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        key = extra.get("keyfile_dict")
        return {"token": json.loads(key) if isinstance(key, str) else key or extra.get("key_path") or "google_default",
                **({"endpoint_url": extra["endpoint_url"]} if extra.get("endpoint_url") else {})}  # fmt: skip
    if connection.kind in ("wasb", "adls"):
        # Azure's library logs each request
        logging.getLogger("azure").setLevel(logging.WARNING)
        return {"account_name": connection.login, "account_key": connection.password, **extra}
    raise NorthstarError(
        f"the connection {connection.name} is of type {connection.kind!r}; files need aws, google_cloud_platform or wasb"
    )


def list_files(
    directory: str,
    pattern: str = "*",
    storage: Storage | None = None,
    any_ending: bool = False,
    passed_over: list[str] | None = None,
) -> list[SourceFile]:
    """The readable files of `directory` (local path or fsspec URL) that match `pattern`, by path.

    any_ending: also those whose endings say no format, since a mapping names them. passed_over: takes the paths of those whose endings do
    not, but for hidden ones.

    A zip archive of several files is listed as those, `a.zip!NAME`; a pattern may name them, too. One that cannot be read is listed as it is:
    it fails alone, when it is read.

    Raises NorthstarError when the directory cannot be listed, for a directory that is named like a file, and for a name with
    characters that cannot be written in a message or a table.
    """
    try:
        system, root = fsspec.core.url_to_fs(directory, **(storage or {}))
        system.invalidate_cache()
        pattern, member_pattern = archives.split(pattern)
        entries = system.glob(f"{root.rstrip('/')}/{pattern}", detail=True)
    except (OSError, ValueError, ImportError) as exc:
        raise _listing_error(exc)(
            f"cannot list {directory}: {str(exc).splitlines()[0]}; check the path and the rights"
        ) from exc
    files, is_local = list[SourceFile](), isinstance(system, LocalFileSystem)
    for path, info in sorted(entries.items()):
        relative = path[len(root.rstrip("/")) + 1 :]
        if ".." in relative.split("/") or not path.startswith(f"{root.rstrip('/')}/"):
            raise NorthstarError(
                f"{directory}: {relative!r} lies outside it; a source has only what is below its directory"
            )
        if is_hidden(relative):
            continue
        if not is_readable(path) and (not any_ending or info["type"] == "directory"):
            if passed_over is not None and info["type"] != "directory":
                passed_over.append(relative)
            continue
        if not relative.isprintable():
            raise NorthstarError(f"{directory}/{ascii(relative)[1:-1]}: a name with invisible characters; rename it")
        if info["type"] == "directory":
            raise NorthstarError(f"{directory}/{relative}: a directory where a file should be; remove or rename it")
        url = (
            f"{LOCAL}{_require_own_file(path, root, f'{directory}/{relative}')}"
            if is_local
            else system.unstrip_protocol(path)
        )
        mark = (
            info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("mtime") or info.get("LastModified")
        )
        changed_at = str(os.stat(url.removeprefix(LOCAL)).st_ctime_ns) if is_local else ""
        file = SourceFile(relative, url, info["size"], f"{info['size']}-{mark}", changed_at, storage or {})
        if archives.is_archive(relative):
            files += _members(file, member_pattern, any_ending, passed_over)
        elif member_pattern is None:
            files.append(file)
    return files


def _members(
    file: SourceFile, pattern: str | None, any_ending: bool, passed_over: list[str] | None
) -> list[SourceFile]:
    """An archive as the files in it that are read. As it is, where it holds one file, or none can be read."""
    try:
        with _open_raw(file) as raw:
            members = archives.members_of(raw, file.path)
    except (FileFailed, OSError):
        return [file]
    if len(members) < 2 and pattern is None:
        return [file]
    chosen, others = archives.chosen_members(members, pattern, any_ending)
    if pattern is None and not chosen:
        return [file]
    if passed_over is not None:
        passed_over += [f"{file.path}!{name}" for name in others]
    return [replace(file, path=f"{file.path}!{name}", member=name) for name in chosen]


def _require_own_file(path: str, root: str, label: str) -> str:
    """The file that a local path leads to. Raises NorthstarError unless it is a regular file below the source's directory.

    Whoever writes the data is trusted with nothing else. A link that stays below the root is allowed (many stores publish a delivery by a
    link to it). A link that leads out of it could fetch what this process may read and the source may not.
    """
    real = os.path.realpath(path)
    if not real.startswith(os.path.realpath(root).rstrip("/") + "/"):
        raise NorthstarError(f"{label}: a link that leads out of the source directory; deliver the file itself")
    if not os.path.isfile(real):
        raise NorthstarError(f"{label}: not a regular file; remove or rename it")
    _require_outside_home(os.path.dirname(real))
    return real


def _require_outside_home(directory: str) -> None:
    """Raise NorthstarError for a directory inside a home, which holds the warehouse's password and data about people."""
    home = _find_home(os.path.realpath(directory))
    if home and not os.path.realpath(directory).startswith(f"{home}/{DEMONSTRATION}"):
        raise NorthstarError(
            f"{directory} lies in the home {home}, which cannot be a source; give a directory outside it"
        )


@lru_cache(maxsize=10_000)
def _find_home(directory: str) -> str | None:
    """The home that a directory lies in, if any."""
    if os.path.isfile(f"{directory}/VERSION") and os.path.isfile(f"{directory}/secrets.json"):
        return directory
    above = os.path.dirname(directory)
    return None if above == directory else _find_home(above)


def connect(source: Source, connection: Connection) -> "FileStore":
    """The store of a declared source of files. Raises NorthstarError for options that are wrong."""
    unknown = set(source.options) - OPTIONS
    if unknown or not source.options.get("path"):
        raise NorthstarError(
            f"source {source.name}, options: give `path` (a directory or s3://, gs://, az:// address), and optionally `mapping`"
        )
    mapping = source.options.get("mapping")
    storage = storage_options(connection) if source.connection else {}
    return FileStore(source.options["path"].rstrip("/"), Path(mapping) if mapping else None, storage)


@dataclass(frozen=True)
class FileStore:
    """A directory of files, local or in an object store. Landing reads the files that are new or changed."""

    path: str
    mapping: Path | None = None
    storage: Storage = field(default_factory=dict, repr=False)

    def check(self) -> str:
        """Lists the directory."""
        check_directory(self.path, self.storage)
        return f"{self.path}: may list it"


def _listing_error(exc: Exception) -> type[NorthstarError]:
    """The type of an error about a directory that cannot be listed: a store may be away for a while, rights and addresses do not change."""
    is_passing = isinstance(exc, OSError) and not isinstance(
        exc, PermissionError | FileNotFoundError | NotADirectoryError
    )
    return SourceDown if is_passing else NorthstarError


def check_directory(directory: str, storage: Storage | None = None) -> None:
    """Raise NorthstarError unless `directory` exists and can be listed."""
    try:
        system, root = fsspec.core.url_to_fs(directory, **(storage or {}))
        system.invalidate_cache()
        if not system.exists(root):
            raise NorthstarError(f"no source directory {directory}; give the one that holds a folder for each entity")
        if not system.isdir(root):
            raise NorthstarError(f"{directory} is a file; give the directory that holds a folder for each entity")
        if isinstance(system, LocalFileSystem):
            _require_outside_home(root)
        system.ls(root)
    except (OSError, ValueError, ImportError) as exc:
        raise _listing_error(exc)(f"cannot read the source directory {directory}: {str(exc).splitlines()[0]}") from exc
