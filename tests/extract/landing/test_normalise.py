"""Bad input: whatever a file holds, each of its records lands, is quarantined with a reason or refused, or one line refuses the file.

`python -m benchmarks.fuzz` is the long campaign of the same; docs/security.md has its figures. What it found stands below by name.
"""

import base64
import gzip
import io
import json
import random
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar.base.errors import NorthstarError
from northstar.contract import entities
from northstar.extract.landing import directory as landing_directory
from northstar.extract.landing.batch import Delivery, Rejects
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.normalise import normalise, without_nulls
from northstar.extract.sources.files import BLOCK_BYTES, CsvOptions, Reading, SourceFile
from northstar.privacy.guard import Guard
from northstar.publish.certificates import input_contents
from northstar.runs import quarantine
from northstar.warehouse import db
from tests import hostile
from tests.hostile import HostileFile
from tests.support import empty, silent

EVENT = {
    "event_id": "e1",
    "event_name": "x",
    "occurred_at": "2025-01-01T00:00:00Z",
    "received_at": "2025-01-01T00:00:00Z",
}
EVENTS, ACCOUNTS = entities()["events"], entities()["accounts"]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**32))
@pytest.mark.slow
def test_every_record_of_a_hostile_file_is_accounted_for(seed):
    hostile.read(hostile.a_file(random.Random(seed)))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from(["csv", "jsonl", "parquet", "jsonl.gz"]))
@pytest.mark.slow
def test_a_text_lands_as_it_was_given_or_not_at_all(texts, kind):
    rows = [{**EVENT, "event_id": f"e{n}", "session_id": text} for n, text in enumerate(texts)]
    file = Reading(SourceFile(f"events/a.{kind}", "memory", 1, "1", content=_content(rows, kind)))
    landed = [row for raw in file.batches() for row in normalise(EVENTS, raw, Guard("key")).rows.to_pylist()]
    known = {row["event_id"]: row["session_id"] for row in landed}
    for n, text in enumerate(texts):
        if "\x00" in text:
            assert f"e{n}" not in known
        else:
            assert known[f"e{n}"] == (text if text.strip() else None)


def _content(rows: list[dict], kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), out)
    elif kind.startswith("jsonl"):
        out.write("\n".join(map(json.dumps, rows)).encode())
    else:
        lines = [",".join(rows[0]), *(",".join('"' + v.replace('"', '""') + '"' for v in r.values()) for r in rows)]
        out.write("\n".join(lines).encode())
    return gzip.compress(out.getvalue()) if kind.endswith("gz") else out.getvalue()


@pytest.fixture
def source(tmp_path, warehouse):
    empty(warehouse)
    return tmp_path


def test_hostile_files_land_in_postgres_with_every_record_in_one_place(warehouse, source):
    random_ = random.Random(20)
    files = [hostile.a_file(random_, 12, f"file{n}") for n in range(100)]
    files = [file for file in files if file.options == CsvOptions()]
    hostile.write(source, files)
    sums = hostile.landed_exactly_once(warehouse, source, files)
    assert sums["inserted"] > 100 and sums["quarantined"] > 100 and sums["refused files"] > 5
    before = _count(warehouse)
    with pytest.raises(landing_directory.NorthstarError):
        land_directory(warehouse, None, str(source), progress=silent)
    assert _count(warehouse) == before
    # what is made of the rows later: the certificate's hashes, another try
    with db.connect(warehouse, "transformer") as connection:
        assert sum(told["rows"] for told in input_contents(connection, None, 10**9).values()) == sums["inserted"]
    assert f" of {sums['quarantined']} rows landed" in quarantine.replay(warehouse)


def _count(settings) -> dict:
    with db.connect(settings, "loader") as connection:
        return {
            table: connection.execute(f"select count(*) as n from {table}").fetchone()["n"]
            for table in ("quarantine.rows", "audit.landed_files", *(f"staging.{name}" for name in entities()))
        }


def _csv(text: str, name: str = "events/a.csv", **options) -> HostileFile:
    return HostileFile(EVENTS, name, text.encode(), CsvOptions(**options))


HEADER = "event_id,event_name,session_id,occurred_at,received_at\n"
GOOD = "e{},x,{},2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"


def test_a_field_of_a_megabyte_beside_a_bad_row():
    header = HEADER.replace("session_id", "remark")
    bad = "e2,x\n" + GOOD.format(3, "y").replace("2025-01-01T", "2025-13-01T")
    outcome = hostile.read(_csv(header + GOOD.format(1, "x" * (1 << 20)) + bad))
    assert (outcome.read, outcome.landed, outcome.quarantined) == (3, 1, 2)


def test_lines_that_end_in_a_carriage_return():
    outcome = hostile.read(_csv((HEADER + GOOD.format(1, "x") + GOOD.format(2, "y") + "e3,x\n").replace("\n", "\r")))
    assert (outcome.read, outcome.landed, outcome.quarantined) == (3, 2, 1)


@pytest.mark.parametrize("name", ["\ufeffemail", " email", "E-Mail", "e_mail ", "EMAIL", "ema\x00il", "\uff45mail"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_personal_data_is_known_by_any_spelling_of_its_name(name, kind):
    """Behind a byte order mark, or a space after a comma, it landed in `_extra` in clear."""
    good = {
        name: "anna@example.org",
        "account_id": "a1",
        "account_type": "customer",
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
    }
    rows = [good, {**good, "created_at": "never"}]
    content = _content(rows, kind)
    if kind == "csv":
        content += b"\nanna@example.org,a3\n"
    reading = Reading(SourceFile(f"accounts/a.{kind}", "memory", 1, "1", content=content))
    done = [normalise(ACCOUNTS, raw, Guard("key")) for raw in reading.batches()]
    reading.lines_of({line for d in done for line, _, _ in d.bad})
    kept = [landing_directory.seal_row(r.row, "key") for r in reading.rejected]
    assert sum(d.rows.num_rows for d in done) == 1 and sum(len(d.bad) for d in done) == 1
    assert "anna" not in str([d.rows.to_pylist() for d in done]) + str([d.bad for d in done]) + str(kept)
    assert len(kept) == (kind == "csv")


@pytest.mark.parametrize("text", ["\\u0000", "a\\\\u0000b", "\x00", "a\x00\x00b", "\\\x00", "\\\\\x00x"])
def test_json_stays_json_when_its_null_bytes_go(text):
    """Cut out as text, `\\u0000` took half of an escaped backslash with it, and Postgres refused the whole batch."""
    assert json.loads(without_nulls(json.dumps({"a": text}))) == {"a": text.replace("\x00", "")}


def test_null_bytes_in_the_names_of_columns():
    row = {**EVENT, "a\x00b": "1", "\x00": "2", "_line": "7", "session_id\x00": "p"}
    for kind in ("jsonl", "parquet", "csv"):
        file = HostileFile(EVENTS, f"events/a.{kind}", _content([row], kind))
        assert hostile.read(file).landed == 1, kind


@pytest.mark.parametrize("number", ["1e-20000", "0." + "1" * 20_000, "1e999999", "1" * 200_000])
def test_a_json_number_that_jsonb_cannot_hold_is_quarantined(warehouse, source, number):
    """It landed, and stopped every publication after it: the certificate's hash reads json as jsonb."""
    (source / "events").mkdir()
    (source / "events/a.jsonl").write_text(json.dumps({**EVENT, "properties": f'{{"a": {number}}}'}) + "\n")
    assert [r.quarantined for r in land_directory(warehouse, None, str(source), progress=silent)] == [1]


def test_json_that_is_nested_too_deep_is_quarantined_not_fatal():
    deep = '{"event_id": "e1", "properties": ' + "[" * 600 + "]" * 600 + "}\n"
    outcome = hostile.read(HostileFile(EVENTS, "events/a.jsonl", (deep + json.dumps(EVENT)).encode()))
    assert (outcome.landed, outcome.quarantined) == (1, 1)


@pytest.mark.parametrize("depth", [101, 300, 900])
def test_what_is_nested_too_deep_to_be_looked_through_is_sealed_where_it_is_kept(depth):
    """It ended a landing in a traceback, wherever it stood beside the contract's own json columns."""
    deep = "[" * depth + '{"first_name": "Zebulon"}' + "]" * depth
    rows = [
        {**EVENT, "remark": deep, "properties": "[" * 98 + "]" * 98},
        {**EVENT, "event_id": "e2", "properties": deep, "remark": deep},
    ]
    for kind in ("jsonl", "csv", "parquet"):
        done = [
            normalise(EVENTS, raw, Guard("key"))
            for raw in Reading(SourceFile(f"a.{kind}", "memory", 1, "1", content=_content(rows, kind))).batches()
        ]
        assert sum(d.rows.num_rows for d in done) == 1 and sum(len(d.bad) for d in done) == 1, kind
        kept = str([d.rows.to_pylist() for d in done]) + str([d.bad for d in done])
        assert "sealed:" in kept and "Zebulon" not in kept, kind


@pytest.mark.parametrize("column", ["event_id", "event_name", "account_id", "application"])
def test_a_name_that_no_index_holds_is_quarantined(warehouse, source, column):
    """One such row kept its whole entity from landing, for ever: an entry of an index has 2,704 bytes."""
    name = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    (source / "events").mkdir()
    for number, length in enumerate((500, 501, 20_000)):
        (source / f"events/{number}.jsonl").write_text(
            json.dumps({**EVENT, "event_id": f"e{number}", column: name[:length]}) + "\n"
        )
    told = land_directory(warehouse, None, str(source), progress=silent)
    assert [(r.inserted, r.quarantined) for r in told] == [(1, 2)]


def test_a_column_or_a_file_whose_name_no_index_holds_keeps_nothing_from_landing(warehouse, source):
    name = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    (source / "events").mkdir()
    (source / "events/a.jsonl").write_text(
        json.dumps({**EVENT, name: "x"}) + "\n" + json.dumps({**EVENT, "event_id": "e2", "occurred_at": name})
    )
    deep = source.joinpath("events", *(name[start : start + 200] for start in range(0, 2800, 200)))
    deep.mkdir(parents=True)
    (deep / "b.jsonl").write_text(json.dumps({**EVENT, "event_id": "e3"}))
    with pytest.raises(NorthstarError, match="its path is longer than 2,000 bytes"):
        land_directory(warehouse, None, str(source), progress=silent)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from staging.events").fetchone()["n"] == 1
        assert connection.execute("select column_name, rows from audit.schema_drift").fetchall() == [
            {"column_name": name[:200], "rows": 1}
        ]
        assert connection.execute("select count(*) as n from quarantine.rows").fetchone()["n"] == 1


def test_a_byte_order_mark_costs_no_record():
    line = json.dumps(EVENT).encode()
    assert hostile.read(HostileFile(EVENTS, "events/a.jsonl", b"\xef\xbb\xbf" + line)).landed == 1
    assert hostile.read(_csv("\ufeff" + HEADER + GOOD.format(1, "x"))).landed == 1


def test_text_in_parquet_that_is_not_utf_8_is_one_line():
    raw = pa.array([b"e1", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    out = io.BytesIO()
    pq.write_table(pa.table({"event_id": text}), out)
    assert "text that is not utf-8" in hostile.read(HostileFile(EVENTS, "events/a.parquet", out.getvalue())).error


@pytest.mark.parametrize(
    ("kind", "was", "given", "told"),
    [
        (pa.timestamp("us", "Europe/Paris"), b"Europe/Paris", b"Europe\x80Paris", "not utf-8"),
        (pa.int64(), b"\x40\x00\x00\x00", b"\x80\x00\x00\x00", "more than 64 bits"),
    ],
    ids=["a_time_zone_that_is_not_utf_8", "whole_numbers_of_128_bits"],
)
def test_what_a_parquet_file_says_of_itself_is_not_taken_on_trust(kind, was, given, told):
    out = io.BytesIO()
    pq.write_table(pa.table({"occurred_at": pa.array([1], kind)}), out)
    schema = pq.read_metadata(io.BytesIO(out.getvalue())).metadata[b"ARROW:schema"]
    assert was in base64.b64decode(schema)
    broken = base64.b64encode(base64.b64decode(schema).replace(was, given))
    outcome = hostile.read(HostileFile(EVENTS, "events/a.parquet", out.getvalue().replace(schema, broken)))
    assert told in outcome.error and "\n" not in outcome.error


def test_a_line_that_is_not_utf_8_is_one_line_and_says_where(capfd):
    content = (HEADER + GOOD.format(1, "x")).encode() + b"e2,\xff\n"
    outcome = hostile.read(HostileFile(EVENTS, "events/a.csv", content))
    assert f"not utf-8 at byte {content.index(0xFF)}" in outcome.error
    # the parser's own handler of odd rows printed a traceback of its own
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.timestamp("ms"), 2**62), (pa.timestamp("ms"), -(2**62)), (pa.date32(), 2**31 - 1), (pa.date32(), -719529), (pa.timestamp("us"), 2**62), (pa.date64(), 2**62 // 86400000 * 86400000)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["occurred_at", "session_id", "unknown"])
def test_times_beyond_pythons_own_are_quarantined_where_a_time_is_meant(kind, value, name):
    rows = {**{n: pa.array([v] * 2) for n, v in EVENT.items()}, "event_id": pa.array(["e1", "e2"])}
    rows[name] = pa.array([value, 20089 if pa.types.is_date32(kind) else None], kind)
    out = io.BytesIO()
    pq.write_table(pa.table(rows), out)
    outcome = hostile.read(HostileFile(EVENTS, "events/a.parquet", out.getvalue(), records=2))
    assert outcome.error is None and outcome.quarantined >= (name == "occurred_at")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1989-12-31T23:59:59Z"])
def test_a_later_time_that_nobody_means_is_quarantined_too(time):
    """Hours since the year 1 are 17 million periods of each metric; a zero date in an export is a null, and has to say so."""
    incident = {
        "incident_id": "i1",
        "started_at": "2025-01-01T00:00:00Z",
        "resolved_at": time,
        "updated_at": "2025-01-01T00:00:00Z",
    }
    raw = pa.RecordBatch.from_pylist([{**incident, "severity": "critical", "_line": 1}])
    done = normalise(entities()["incidents"], raw, Guard("key"))
    assert "resolved_at: before 1990" in [reason for _, reasons, _ in done.bad for reason in reasons]
    assert done.rows.num_rows == 0


def test_keys_that_are_values_cost_neither_memory_nor_a_table_of_drift():
    lines = "\n".join(json.dumps({**EVENT, "event_id": f"e{n}", f"key {n}": 1}) for n in range(3_000))
    reading = Reading(SourceFile("events/a.jsonl", "memory", 1, "1", content=lines.encode()))
    delivery, read = Delivery(Rejects()), 0
    for raw in reading.batches():
        assert raw.num_rows * raw.num_columns < 10_000_000
        delivery.record_drift(EVENTS, raw, "events/a.jsonl")
        read += raw.num_rows
    assert read == 3_000 and len(delivery.drift) <= 1_000


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.slow
def test_long_texts_come_in_small_batches(kind):
    """65,536 rows were a batch, however long: a file of texts of a megabyte each would have been held whole."""
    rows = [{**EVENT, "event_id": f"e{n}", "session_id": random.Random(n).randbytes(1 << 19).hex()} for n in range(40)]
    reading = Reading(SourceFile(f"events/a.{kind}", "memory", 1, "1", content=_content(rows, kind)))
    sizes = [(raw.num_rows, raw.nbytes) for raw in reading.batches()]
    assert sum(rows for rows, _ in sizes) == 40 and max(size for _, size in sizes) < 24 << 20


def test_a_bomb_is_refused_before_it_unfolds():
    for name, start in (("events/a.csv.gz", HEADER + '"'), ("events/a.jsonl.gz", '{"a": "')):
        bomb = gzip.compress(start.encode() + b"x" * (3 * BLOCK_BYTES), 9)
        assert len(bomb) < 100_000
        assert "longer than 4 MB" in hostile.read(HostileFile(EVENTS, name, bomb)).error


def test_times_mean_what_python_takes_them_for():
    """DST hours, leap seconds, the ends of the calendar: landed as the same instant, or quarantined."""
    raw = pa.RecordBatch.from_pylist(
        [{**EVENT, "event_id": f"e{n}", "occurred_at": t, "_line": n} for n, t in enumerate(hostile.TIMES)]
    )
    done = normalise(EVENTS, raw, Guard("key"))
    landed = {row["event_id"]: row["occurred_at"] for row in done.rows.to_pylist()}
    assert len(landed) + len(done.bad) == len(hostile.TIMES) and len(landed) >= 8
    for n, text in enumerate(hostile.TIMES):
        if f"e{n}" in landed:
            assert landed[f"e{n}"] == hostile.instant(text), text
    assert isinstance(landed["e0"], date)


@pytest.mark.parametrize("name", [b"\xff\xfe.csv", b"new\nline.csv", b"esc\x1b[31m.csv"])
def test_a_file_whose_name_cannot_be_said_is_one_line(warehouse, source, name):
    (source / "events").mkdir()
    with open(bytes(source / "events") + b"/" + name, "w") as handle:
        handle.write(HEADER + GOOD.format(1, "x"))
    with pytest.raises(landing_directory.NorthstarError, match="rename it") as refused:
        land_directory(warehouse, None, str(source), progress=silent)
    assert str(refused.value).isprintable()
