"""The files that are read, by their names; those that are not; and what is wrong with what they hold."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import FileFailed
from northstar.contract import entities
from northstar.extract.landing.normalise import normalise
from northstar.extract.sources.files import BLOCK_BYTES, Reading, SourceFile, list_files, without_unfinished_line
from northstar.privacy.guard import Guard

AT = "2025-02-10T10:00:00Z"
RECORDS = [
    {"event_id": f"e{n}", "event_name": "page.view", "occurred_at": AT, "received_at": AT, "account_id": "a,b"}
    for n in range(3)
]
NAMES = list(RECORDS[0])


def lines(records=RECORDS) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def separated(by: str) -> bytes:
    return "".join(by.join(f'"{v}"' for v in row) + "\n" for row in [NAMES, *(r.values() for r in RECORDS)]).encode()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


def zst(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def read(name: str, content: bytes) -> tuple[list[dict], Reading]:
    reading = Reading(SourceFile(name, "memory", len(content), "1", content=content))
    return [
        {k: v for k, v in row.items() if k != "_line"} for batch in reading.batches() for row in batch.to_pylist()
    ], reading


FORMATS = {
    "csv": separated(","), "tsv": separated("\t"), "jsonl": lines(), "ndjson": lines(), "json": json.dumps(RECORDS).encode(),
}  # fmt: skip
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", PACKERS)
def test_every_format_is_read_in_every_compression(kind, suffix):
    assert read(f"events/A.{kind.upper()}{suffix}", PACKERS[suffix](FORMATS[kind]))[0] == RECORDS


@pytest.mark.parametrize("kind", FORMATS)
def test_an_archive_of_one_file_is_read_as_that_file(kind):
    assert read(f"events/a.{kind}.zip", zipped(**{f"x__{kind}": FORMATS[kind]}))[0] == RECORDS
    members = {f"a__{kind}": FORMATS[kind], "__MACOSX/._a__csv": b"\x00\x05"}
    assert read("events/a.zip", zipped(**{f"x__{kind}": members[f"a__{kind}"]}))[0] == RECORDS


def test_an_archive_with_what_an_apple_adds_is_read_too():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", FORMATS["csv"])
        archive.writestr("__MACOSX/._a.csv", b"\x00\x05")
    assert read("events/a.zip", out.getvalue())[0] == RECORDS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped(a__csv=b"", b__csv=b""), "the archive holds 2 files; deliver each in an archive of its own"),
        (zipped(), "the archive holds 0 files"),
        (zipped(a__txt=b"x"), "'a.txt' in it is no csv"),
        (zipped(a__csv=FORMATS["csv"])[:-30], "damaged"),
    ],
)
def test_another_archive_is_one_line_of_error(content, reason):
    with pytest.raises(FileFailed, match=reason):
        read("events/a.zip", content)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_bytes_after_the_compressed_data_are_an_error_that_says_so(suffix):
    content = PACKERS[suffix](FORMATS["csv"])
    with pytest.raises(FileFailed, match=r"a.csv.*: after the compressed data come other bytes"):
        read(f"events/a.csv{suffix}", content + b"garbage")
    # several members, and zeros that fill a block, are no garbage
    half = len(FORMATS["csv"]) // 2
    members = PACKERS[suffix](FORMATS["csv"][:half]) + PACKERS[suffix](FORMATS["csv"][half:])
    assert read(f"events/a.csv{suffix}", members + b"\0" * 512)[0] == RECORDS


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_that_is_cut_short_lands_nothing(suffix):
    content = PACKERS[suffix](FORMATS["csv"])
    for broken in (content[:-9], b"nothing of the kind"):
        with pytest.raises(FileFailed, match=r"cut short|runcated|damaged|nvalid|not|Unknown|ZSTD"):
            read(f"events/a.csv{suffix}", broken)


# json


def test_a_json_file_is_an_array_or_lines():
    assert read("events/a.json", lines())[0] == RECORDS
    assert read("events/a.json", b"\xef\xbb\xbf \n" + json.dumps(RECORDS, indent=2).encode() + b"\n")[0] == RECORDS
    assert read("events/a.json", b"[]")[0] == []


def test_an_array_is_read_in_parts_whatever_its_size():
    many = [{**RECORDS[0], "event_id": f"e{n}", "remark": "[x],{" * 200} for n in range(6_000)]
    content = json.dumps(many).encode()
    assert len(content) > 1.4 * BLOCK_BYTES
    assert [r["event_id"] for r in read("events/a.json", content)[0]] == [r["event_id"] for r in many]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"a": 1}, {"a"', "damaged or cut short after 1 records"), (b'[{"a": 1} {"a": 2}]', "after 1 records"), (b'[{"a": 1},]', "after 1 records"),
        (b'[{"a": 1}] x', "after its array of 1 records comes something else"), (b"[", "after 0 records"), (b"[" * 5000, "nested too deep"),
    ],
)  # fmt: skip
def test_an_array_that_is_none_is_one_line_of_error(content, reason):
    with pytest.raises(FileFailed, match=reason):
        read("events/a.json", content)


def test_what_is_no_object_in_an_array_is_one_row_in_quarantine():
    rows, reading = read("events/a.json", b'[{"event_id": "e"}, 5, null]')
    assert rows == [{"event_id": "e"}]
    assert [(r.line, r.reason) for r in reading.rejected] == [
        (2, "not a JSON object: not an object"),
        (3, "not a JSON object: not an object"),
    ]


def test_json_numbers_stay_as_they_are_written():
    long = [
        "147573952589676412927",
        "-147573952589676412928",
        "0.12345678901234567890123",
        "9223372036854775808",
        "9223372036854775807",
        "1e5",
        "1.50",
    ]
    for number in long:
        for name, content in (
            ("a.jsonl", f'{{"id": {number}, "in": {{"n": {number}}}}}'),
            ("a.json", f'[{{"id":{number},"in":{{"n":{number}}}}}]'),
        ):
            ((row,), _) = read(f"events/{name}", content.encode())
            assert float(row["id"]) == float(number) and (len(number) < 17 or row["id"] == number)
            assert len(number) < 17 or row["in"] == f'{{"n":{number}}}'


def test_different_long_ids_are_different_rows():
    content = b"".join(
        b'{"event_id":14757395258967641292%d,"event_name":"x","occurred_at":"%b","received_at":"%b"}\n'
        % (n, AT.encode(), AT.encode())
        for n in range(3)
    )
    reading = Reading(SourceFile("events/a.jsonl", "memory", 1, "1", content=content))
    (batch,) = reading.batches()
    landed = normalise(entities()["events"], batch, Guard("key")).rows.to_pylist()
    assert [row["event_id"] for row in landed] == [f"14757395258967641292{n}" for n in range(3)]


# csv


def test_columns_with_neither_a_name_nor_a_value_are_nothing():
    content = b"event_id,event_name,,\ne1,x,,\ne2,y,,\n"
    assert read("events/a.csv", content)[0] == [
        {"event_id": "e1", "event_name": "x"},
        {"event_id": "e2", "event_name": "y"},
    ]
    assert read("events/a.csv", b"event_id,,\ne1,,note\n")[0] == [{"event_id": "e1", "column 3": "note"}]
    assert read("events/a.csv", b",event_id,\n1,e1,\n")[0] == [{"column 1": "1", "event_id": "e1"}]


# names


def test_hidden_and_unfinished_files_are_no_deliveries(tmp_path):
    for name in ("events/a.csv", "events/._a.csv", "events/_temporary/0/b.csv", "events/.hive-staging/c.csv", "events/.ipynb_checkpoints/a.csv",
                 "events/_SUCCESS", "events/day=1/d.csv", "events/_day=1/e.csv", "events/x.tmp/f.csv", "events/_g.csv"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("event_id\ne\n")
    passed_over: list[str] = []
    files = list_files(str(tmp_path), "events/**", passed_over=passed_over)
    assert [f.path for f in files] == [
        "events/_day=1/e.csv",
        "events/a.csv",
        "events/day=1/d.csv",
        "events/x.tmp/f.csv",
    ]
    assert passed_over == []


def test_other_files_are_told(tmp_path):
    (tmp_path / "events").mkdir()
    for name in ("a.xlsx", "b.csv.lz4", "c.parquet.gz", "README", "d.csv"):
        (tmp_path / "events" / name).write_text("x")
    passed_over: list[str] = []
    list_files(str(tmp_path), "events/**", passed_over=passed_over)
    assert passed_over == ["events/README", "events/a.xlsx", "events/b.csv.lz4", "events/c.parquet.gz"]


def test_a_line_without_its_end_waits_and_an_array_does_not(tmp_path):
    for name, is_held in (("a.ndjson", True), ("a.tsv", True), ("a.json", True), ("b.json", False)):
        path = tmp_path / name
        path.write_text('[{"a": 1}, {"b"' if name == "b.json" else '{"a": 1}\n{"b"')
        file = SourceFile(name, f"file://{path}", path.stat().st_size, "1")
        assert (without_unfinished_line(file).finished_bytes is not None) is is_held, name


def test_parquet_is_read_as_before():
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), out)
    assert read("events/a.parquet", out.getvalue())[0] == RECORDS
