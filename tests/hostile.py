"""Hostile source files, made from a seed, and what must hold of each: every record landed, quarantined or refused, exactly once.

`a_file` makes one; `read` does with it what landing does before the database, and checks it. benchmarks/fuzz.py runs a campaign of them.
"""

import csv
import gzip
import io
import json
import math
import os
import random
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from northstar.base.errors import NorthstarError
from northstar.contract import Column, Entity, entities
from northstar.contract.codes import CODES
from northstar.extract.landing.batch import Delivery, Rejects
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.mapped import require_columns
from northstar.extract.landing.normalise import EARLIEST, Normalised, landed_schema, normalise
from northstar.extract.sources.files import SETTLED_SECONDS, CsvOptions, Reading, SourceFile
from northstar.privacy.guard import Guard
from northstar.warehouse import db

KEY = "a key of the tests"
FORMATS = ("csv", "csv", "csv.gz", "jsonl", "jsonl", "jsonl.gz", "parquet")
# what no compression makes short enough for an index
LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
TEXTS = (
    "", " ", "x", "a,b;c\td|e", 'say "so"', '"', '""', "'", "line\nbreak", "line\r\nbreak", "\r", "back\\slash", "\\", "\\u0000", "\\\\u0000",
    "=1+1", "=HYPERLINK(\"http://example.org\";\"x\")", "+1", "-1+2", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1",
    "'; drop table staging.accounts; --", "$$; select 1; $$", "%s %(x)s {0} {x} ${x} {{ x }} {% raw %}", "'||pg_sleep(9)||'", "\\'; --", "/* */",
    "null\x00byte", "\x00", "\x01", "\x1f", "\x7f", "\u0085", "\u2028", "\ufeff", "\u202eevil\u202c", "\u2066x\u2069", "\u200b", "a\u0301", "\ufffd",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0010ffff", "\ufffe", "i\u0307", "\u0130", "\u1e9e", "\u0661\u0662", "\uff11",
    "<script>alert(1)</script>", "<a href=\"javascript:alert(1)\">x</a>", "../../etc/passwd", "NULL", "null", "None", "NaN", "nan", "true", "[]", "{}",
    "hashed:", "hashed:abc", "_line", "x" * 300, LONG, LONG[:500], LONG[:501],
)  # fmt: skip
TIMES = (
    "2025-01-01T00:00:00Z", "2025-01-01 00:00:00+00", "2025-03-30T02:30:00+01:00", "2025-03-30T02:30:00 Europe/Berlin", "2025-10-26T02:30:00+02:00",
    "2025-10-26T02:30:00+01:00", "2016-12-31T23:59:60Z", "2025-06-30T23:59:60Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999-23:59",
    "0000-00-00T00:00:00Z", "0000-01-01T00:00:00Z", "1989-12-31T23:59:59Z", "1990-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
    "2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01T25:00:00Z", "2025-01-01T00:60:00Z", "2025-01-01T00:00:00", "2025-01-01", "01/02/2025",
    "2025-01-01T00:00:00.123456789Z", "2025-01-01T00:00:00.Z", "2025-01-01T00:00:00+99:99", "2025-01-01T00:00:00-24:00", "2025-01-01T00:00:00+0530", "2025-01-01T00:00Z",
    "2025-W01-1", "20250101T000000Z", "1735689600", "1735689600000", "now", "today", "infinity", "-infinity", "epoch", "2025-01-01T00:00:00z", "2025-01-01t00:00:00Z",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "1", "-1", "1.0", "1.5", "1e3", "1E+3", "1e308", "1e309", "-1e400", "1e-400", "1e999", "1e-12", "0.0000000000005", "NaN", "nan", "inf", "-inf", "Infinity", "+Infinity",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "999999999999999999", "1000000000000000000", "1" * 39, "9" * 77, "1." + "3" * 50, "1,5", "1 000", "0x10", "1_000",
    "\u0661", "--1", "+", ".", "1.", ".5", "1e", "\uff11", "$1", "1%", " 7 ",
)  # fmt: skip
JSONS = (
    "{}", "[]", "null", "1", '"x"', '{"a": 1}', '{"a": 1, "a": 2}', '{"": 0}', "{", "{'a': 1}", '{"a": NaN}', '{"a": Infinity}', '{"a": 1e400}', '{"a": 1e999999}', '{"a": "\\u0000"}', '{"a\\u0000": 1}',
    '{"a": "\\\\u0000"}', '{"a": "\\ud800"}', '{"a": "\\udc00\\ud800"}', '{"a": "\\ud83d\\ude00"}', '{"a": "\x00"}', "[" * 2000 + "]" * 2000, "[" * 900 + "]" * 900, '{"a": "' + "x" * 5000 + '"}',
    '{"goal": "x", "amount": "1e400"}', '{"a": 1}x', "\ufeff{}", '{"a":\t1}', '{"amount": -0.0}', '{"a": 123456789012345678901234567890}',
)  # fmt: skip
HEADERS = ("_line", "_extra", "_batch_id", "ACCOUNT_ID", " email", "e-mail", "null\x00byte", "", " ", "\u202eevil", "x" * 500, "'; drop", "a\nb", '"', "Email", "application", "\ufeffx", "%s", "source", LONG)  # fmt: skip
PLAIN = {
    "text": "x1",
    "int": "3",
    "decimal": "1.5",
    "bool": "true",
    "timestamp": "2025-01-02T03:04:05Z",
    "date": "2025-01-02",
    "json": '{"a": 1}',
}
HOSTILE = {
    "text": TEXTS,
    "int": (*NUMBERS, *TEXTS[:4]),
    "decimal": (*NUMBERS, *TEXTS[:4]),
    "bool": ("true", "FALSE", "t", "Y", "1", "0.0", "2", "maybe", " true ", "\u0130", *TEXTS[:4]),
    "timestamp": (*TIMES, *TEXTS[:4]),
    "date": (*TIMES, *TEXTS[:4]),
    "json": (*JSONS, *TEXTS[:4]),
}
EVERYTHING = tuple(dict.fromkeys((*TEXTS, *TIMES, *NUMBERS, *JSONS)))


@dataclass
class HostileFile:
    """A file with what an independent look at it counts."""

    entity: Entity
    name: str
    content: bytes
    options: CsvOptions = field(default_factory=CsvOptions)
    # records as they were written; None where the bytes were damaged afterwards
    records: int | None = None


@dataclass
class Outcome:
    """What became of a file's records, or the one line that refuses the file."""

    read: int = 0
    landed: int = 0
    quarantined: int = 0
    refused: int = 0
    error: str | None = None


def a_file(
    random_: random.Random, rows: int = 8, name: str | None = None, entity: Entity | None = None, damaged: bool = True
) -> HostileFile:
    """A hostile file. damaged: also files whose bytes, not only their values, are not what their name says."""
    entity = entity or random_.choice(list(entities().values()))
    kind = random_.choice(FORMATS)
    columns = [c.name for c in entity.columns.values() if c.required or random_.random() < 0.7]
    if random_.random() < 0.3:
        columns += random_.sample(HEADERS, random_.randint(1, 3))
    if damaged and random_.random() < 0.05:
        random_.shuffle(columns)
        columns = columns[: random_.randint(0, len(columns))]
    if damaged and kind != "parquet" and random_.random() < 0.04 and columns:
        columns.append(random_.choice(columns))
    wildness = random_.choice((0.0, 0.02, 0.1, 0.5, 1.0))
    records = [
        {name: a_value(random_, entity.columns.get(name), wildness, number) for name in columns}
        for number in range(random_.randint(0, rows))
    ]
    path = f"{entity.name}/{name or 'hostile'}.{kind}"
    options = CsvOptions()
    if kind == "parquet":
        content, count = _parquet(random_, columns, records), len(records) if columns else 0
    elif kind.startswith("jsonl"):
        content, count = _jsonl(random_, records, damaged)
    else:
        content, count, options = _csv(random_, columns, records, damaged)
    if kind.endswith(".gz"):
        content = gzip.compress(content, 1, mtime=0)
    if damaged and random_.random() < 0.15:
        content, count = damage(random_, content), None
    return HostileFile(entity, path, content, options, count)


def a_value(random_: random.Random, column: Column | None, wildness: float, number: int):
    """A value for a column, hostile with the probability `wildness`; None is a null."""
    if random_.random() < wildness:
        if random_.random() < 0.1:
            return None
        if random_.random() < 0.01:
            return random_.choice("x\u00e4\U0001f600") * (1 << 20)
        return random_.choice(HOSTILE[column.type] if column and random_.random() < 0.7 else EVERYTHING)
    if column is None:
        return "known to nobody"
    if column.values:
        return random_.choice(column.values)
    if not column.required and random_.random() < 0.3:
        return None
    if column.code:
        return random_.choice(sorted(CODES[column.code]))
    return f"{column.name}-{number}" if column.type == "text" else PLAIN[column.type]


def _csv(random_, columns, records, damaged: bool) -> tuple[bytes, int | None, CsvOptions]:
    options = CsvOptions(delimiter=random_.choice(",,,;\t|"))
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=options.delimiter, lineterminator=random_.choice(("\n", "\r\n")),
        quoting=random_.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    )  # fmt: skip
    writer.writerow(columns)
    # a record of one empty field is an empty line, and that is no record
    count = 0
    for record in records:
        fields = ["" if record[c] is None else record[c] for c in columns]
        if damaged and random_.random() < 0.05:
            fields = fields[: random_.randint(0, len(fields))] if random_.random() < 0.5 else [*fields, "too", "many"]
        if len(fields) > 1 or (fields and fields[0].strip("\r\n")):
            count += 1
        else:
            continue
        writer.writerow(fields)
    text = out.getvalue()
    # Python 3.11 writes a lone carriage return without quotes, and that ends a line
    if "\r" in re.sub(r'"[^"]*"', "", text).replace("\r\n", ""):
        count = None
    if damaged and random_.random() < 0.1:
        # writers that do not quote
        text = text.replace('"', random_.choice(("", "'"))) if random_.random() < 0.5 else text.replace("\r\n", "\r")
        count = None
    encoding = "utf-8"
    if damaged and random_.random() < 0.15:
        encoding = random_.choice(("utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "shift_jis"))
        if random_.random() < 0.5 and encoding != "utf-8-sig":
            options.encoding = encoding
        if encoding != "utf-8-sig":
            count = None
    return text.encode(encoding, "replace"), (count if columns else 0), options


def _jsonl(random_, records, damaged: bool) -> tuple[bytes, int]:
    lines = []
    for record in records:
        row = {name: _json_value(random_, value) for name, value in record.items()}
        line = json.dumps(row, ensure_ascii=random_.random() < 0.5)
        if damaged and random_.random() < 0.05:
            line = random_.choice(
                ("[1]", "null", "{", '{"a": "\\ud800"}', '{"a": NaN}', line + line, line[: len(line) // 2], "\ufeff" + line, '"x"', "\x00", line[:-1] + ', "a": "\\ud83d"}')
            )  # fmt: skip
        lines.append(line)
        if random_.random() < 0.05:
            lines.append(random_.choice(("", "  ", "\t")))
    text = random_.choice(("\n", "\r\n")).join(lines)
    content = text.encode("utf-8", "surrogatepass")
    count = sum(bool(line.strip()) for line in content.split(b"\n"))
    if damaged and random_.random() < 0.05:
        # of a file without lines too, which has no record then either
        content = b"\xef\xbb\xbf" + content
    return content, count


def _json_value(random_, value):
    """The text itself, or what it stands for as json's own number, bool, object."""
    if value is None or random_.random() < 0.5:
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(found, float) and not math.isfinite(found) else found


def _parquet(random_, columns, records) -> bytes:
    arrays, names = [], []
    for name in columns:
        values = [record[name] for record in records]
        arrays.append(_typed(random_, values))
        names.append(name)
    table = pa.Table.from_arrays(arrays, names=names) if arrays else pa.table({})
    out = io.BytesIO()
    try:
        pq.write_table(
            table,
            out,
            row_group_size=random_.choice((1, 3, 1000)),
            compression=random_.choice(("none", "snappy", "zstd")),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        out = io.BytesIO()
        pq.write_table(
            pa.Table.from_arrays(
                [a.cast(pa.string()) if pa.types.is_string(a.type) else pa.nulls(len(a)) for a in arrays], names=names
            ),
            out,
        )
    return out.getvalue()


NATIVE = (
    (pa.int64(), lambda r: r.choice((0, 1, -1, 2**62, None))),
    (pa.uint64(), lambda r: r.choice((0, 2**64 - 1, None))),
    (pa.int8(), lambda r: r.choice((0, -128, None))),
    (pa.float64(), lambda r: r.choice((0.0, -0.0, 1.5, 1e300, 5e-324, math.nan, math.inf, -math.inf, 2.0**53, None))),
    (pa.float32(), lambda r: r.choice((0.1, math.nan, None))),
    (pa.float16(), lambda r: r.choice((1.5, None))),
    (pa.decimal128(38, 10), lambda r: r.choice((Decimal("1.5"), Decimal(10) ** 27, None))),
    (pa.decimal256(76, 40), lambda r: r.choice((Decimal("1.5"), Decimal(10) ** 35, None))),
    (pa.bool_(), lambda r: r.choice((True, False, None))),
    (pa.timestamp("s"), lambda r: r.choice((0, 1735689600, 2**62, -(2**62), 253402300800, -62135596801, None))),
    (pa.timestamp("ms", "Europe/Berlin"), lambda r: r.choice((0, 1735689600000, 2**62, -(2**62), None))),
    (pa.timestamp("us", "UTC"), lambda r: r.choice((0, 1735689600000000, 2**62, -(2**62), -62135596800000000, None))),
    (pa.timestamp("ns"), lambda r: r.choice((0, 1735689600000000001, 2**62, -(2**62), None))),
    (pa.date32(), lambda r: r.choice((0, 20089, 2**31 - 1, -(2**31), 2932896, 2932897, -719162, None))),
    (pa.date64(), lambda r: r.choice((0, 1735689600000, 2**62 // 86400000 * 86400000, None))),
    (pa.time64("us"), lambda r: r.choice((0, 86399999999, None))),
    (pa.duration("us"), lambda r: r.choice((0, 2**62, None))),
    (pa.binary(), lambda r: r.choice((b"", b"\xff\xfe", b"a\x00b", None))),
    (pa.large_string(), lambda r: r.choice(("x", "\x00", None))),
    (pa.dictionary(pa.int32(), pa.string()), lambda r: r.choice(("x", "2025-01-01T00:00:00Z", None))),
    (pa.list_(pa.int64()), lambda r: r.choice(([], [1, None], None))),
    (pa.struct([("a", pa.string()), ("b", pa.float64())]), lambda r: r.choice(({"a": "\x00\\u0000", "b": math.nan}, None))),
    (pa.map_(pa.string(), pa.int64()), lambda r: r.choice(([("a", 1), ("a", 2)], None))),
    (pa.null(), lambda r: None),
)  # fmt: skip


def _typed(random_, values: list) -> pa.Array:
    """The texts as they are, or a column of a type of parquet's own with values at its ends."""
    if random_.random() < 0.75:
        return pa.array(values, pa.string())
    if random_.random() < 0.05:
        # text that is not UTF-8, as a careless writer leaves it
        raw = pa.array([random_.choice((b"ok", b"\xff\xfe\x00", b"\xc3")) for _ in values], pa.binary())
        return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    kind, make = random_.choice(NATIVE)
    return pa.array([make(random_) for _ in values], kind)


def damage(random_: random.Random, content: bytes) -> bytes:
    """Cut short, flipped, repeated, filled with other bytes."""
    if not content:
        return random_.randbytes(20)
    place = random_.randrange(len(content))
    how = random_.randrange(6)
    if how == 0:
        return content[:place]
    if how == 1:
        flipped = bytearray(content)
        for _ in range(random_.randint(1, 8)):
            flipped[random_.randrange(len(flipped))] ^= 1 << random_.randrange(8)
        return bytes(flipped)
    if how == 2:
        return (
            content[:place]
            + random_.choice((b"\x00", b'"', b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b","))
            + content[place:]
        )
    if how == 3:
        return content[:place] + content
    if how == 4:
        return content + random_.choice((b"\x1a", b"\x00" * 9, b"\n\n\n", b'"', random_.randbytes(9)))
    return content[place:]


def read(file: HostileFile) -> Outcome:
    """Read a file as landing does, up to the database. Raises AssertionError for a broken promise; any other error is one too."""
    source = Reading(SourceFile(file.name, "memory", len(file.content), "1", content=file.content), file.options)
    outcome, delivery = Outcome(), Delivery(Rejects())
    try:
        pending, places = [], set()
        for raw in source.batches():
            require_columns(file.entity, raw.schema.names, source.file)
            done = normalise(file.entity, raw, Guard(KEY))
            delivery.record_drift(file.entity, raw, file.name)
            check_batch(file.entity, raw, done)
            outcome.read += raw.num_rows
            outcome.landed += done.rows.num_rows
            outcome.refused += done.refused
            pending += done.bad
        if source.columns:
            require_columns(file.entity, source.columns, source.file)
        places = [line for line, _, _ in pending]
        assert len(set(places)) == len(places), "a row is in quarantine twice"
        lines = source.lines_of(set(places))
        for place, reasons, row in pending:
            delivery.rejects.add(file.name, lines.get(place, place), reasons, row)
        for rejected in source.rejected:
            outcome.read += 1
            delivery.rejects.add(file.name, rejected.line, [rejected.reason], rejected.row)
        outcome.quarantined = delivery.rejects.count
        assert outcome.read == outcome.landed + outcome.quarantined + outcome.refused, outcome
        assert len(source.rejected) >= source.ragged, (
            f"{source.ragged} ragged rows, {len(source.rejected)} of them told of"
        )
        if file.records is not None:
            assert outcome.read == file.records, f"{outcome.read} records read, {file.records} written"
        for batch in delivery.rejects.reader():
            for row in batch.to_pylist():
                is_stored_as_jsonb(row["row"])
                assert "\x00" not in row["reasons"] and row["reasons"], row
        for name in delivery.drift:
            assert "\x00" not in name, name
    except NorthstarError as exc:
        outcome = Outcome(error=str(exc))
        assert outcome.error.startswith(file.name), outcome.error
        assert "\n" not in outcome.error and "\x00" not in outcome.error and len(outcome.error) < 1000, outcome.error
    finally:
        delivery.rejects.close()
    return outcome


def check_batch(entity: Entity, raw: pa.RecordBatch, done: Normalised) -> None:
    """What landed of a batch is what the contract says, and the rest is in quarantine with a reason or refused."""
    assert done.rows.num_rows + len(done.bad) + done.refused == raw.num_rows
    assert done.rows.schema == landed_schema(entity)
    done.rows.validate(full=True)
    assert all(reasons and all(reasons) for _, reasons, _ in done.bad)
    for column in entity.stored_columns.values():
        values = done.rows.column(column.name)
        if column.required:
            assert values.null_count == 0, f"{column.name} is required"
        if column.type in ("timestamp", "date"):
            _check_times(column.name, values)
            continue
        for value in values.to_pylist():
            if value is None:
                continue
            assert not column.values or value in column.values, (column.name, value)
            if column.type == "json":
                is_stored_as_jsonb(value)
            elif column.type == "text":
                assert "\x00" not in value and value.strip()
                assert not column.code or value in CODES[column.code]
            elif column.type in ("int", "decimal"):
                assert column.min is None or value >= column.min
                assert column.max is None or value <= column.max
                assert column.above is None or value > column.above
    for value in done.rows.column("_extra").to_pylist():
        if value is not None:
            is_stored_as_jsonb(value)


def _check_times(name: str, values: pa.Array) -> None:
    for value in values.to_pylist():
        if value is not None:
            year = value.astimezone(UTC).year if isinstance(value, datetime) else value.year
            assert isinstance(value, date) and EARLIEST <= year <= 9999, (name, value)


# what Postgres' json input refuses though json's own grammar has it, and what its operators and its jsonb stumble over later
ESCAPES = re.compile(r"\\(u([0-9a-fA-F]{4})|.)", re.DOTALL)


def is_stored_as_jsonb(text: str) -> None:
    """Fails for a text that Postgres would not take as json, nor as jsonb."""
    json.loads(text, parse_constant=_no_constant)
    high = False
    for match in ESCAPES.finditer(text):
        code = int(match[2], 16) if match[2] else None
        assert code != 0, f"a null in {text[:80]!r}"
        assert not (high and not (code and 0xDC00 <= code < 0xE000)), f"half a surrogate pair in {text[:80]!r}"
        assert high or not (code and 0xDC00 <= code < 0xE000), f"half a surrogate pair in {text[:80]!r}"
        high = bool(code and 0xD800 <= code < 0xDC00)
    assert not high and "\x00" not in text


def _no_constant(name: str):
    raise AssertionError(f"{name} is no json")


def landed_exactly_once(settings, source_dir, files: list[HostileFile]) -> dict:
    """Land files that stand below `source_dir` into an empty warehouse; every record of each is in one place. Returns sums over all.

    Raises AssertionError for a record that is lost or double, and whatever landing raises but the one line that names a file.
    """
    outcomes = {file.name: read(file) for file in files}
    refused_files = {name for name, outcome in outcomes.items() if outcome.error}
    try:
        land_directory(settings, None, str(source_dir), progress=lambda _: None)
    except NorthstarError as exc:
        assert refused_files and "\n" not in str(exc), exc
    with db.connect(settings, "loader") as connection:
        told = connection.execute("select path, rows_read, rows_quarantined from audit.landed_files").fetchall()
        known = {row["path"]: row for row in told}
        assert set(known) == set(outcomes) - refused_files
        for name, row in known.items():
            assert (row["rows_read"], row["rows_quarantined"]) == (outcomes[name].read, outcomes[name].quarantined), (
                name
            )
        sums = connection.execute(
            "select coalesce(sum(rows_read), 0)::int as read, coalesce(sum(rows_inserted), 0)::int as inserted, coalesce(sum(rows_updated), 0)::int as updated, "
            "coalesce(sum(rows_unchanged), 0)::int as unchanged, coalesce(sum(rows_quarantined), 0)::int as quarantined, "
            "coalesce(sum(rows_refused), 0)::int as refused from audit.landing_batches"
        ).fetchone()
        assert sums["read"] == sum(sums.values()) - sums["read"], sums
        assert sums["refused"] == sum(outcome.refused for outcome in outcomes.values())
        stored = sum(
            connection.execute(f"select count(*) as n from staging.{name}").fetchone()["n"] for name in entities()
        )
        assert stored == sums["inserted"], f"{stored} rows stand in staging, {sums['inserted']} were told"
        held = connection.execute(
            "select count(*) as n, count(*) filter (where cardinality(reasons) > 0) as with_reason from quarantine.rows where path is not null"
        ).fetchone()
        assert held["n"] == held["with_reason"] == sums["quarantined"]
    return {"files": len(files), "refused files": len(refused_files), **sums}


def write(source_dir: Path, files: list[HostileFile]) -> None:
    """Write files where landing finds them, as their writers left them some time ago."""
    at = time.time() - SETTLED_SECONDS - 1
    for file in files:
        place = source_dir / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        os.utime(place, (at, at))


def instant(text: str) -> datetime:
    """The moment that a text of TIMES means, to the microsecond."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace(".Z", "Z").upper())
    later = timedelta(seconds=1) if ":59:60" in text else timedelta(days=1) if "T24:00:00" in text else timedelta()
    text = text.replace(":59:60", ":59:59").replace("T24:00:00", "T00:00:00")
    return datetime.fromisoformat(text).astimezone(UTC) + later
