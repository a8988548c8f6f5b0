"""Landing: every source row is landed once, or in quarantine with its reasons."""

import gzip
import json
import os
import time
import zipfile

import pandas as pd
import pytest

from northstar.base.errors import NorthstarError
from northstar.contract import entities
from northstar.extract.landing import directory as landing_directory
from northstar.extract.landing.directory import land_directory
from northstar.extract.sources import files
from northstar.operate.status import status
from northstar.runs import quarantine
from northstar.warehouse import db
from tests.support import empty, query_as, silent

ACCOUNT = {
    "account_id": "a1",
    "account_type": "customer",
    "created_at": "2025-01-01T00:00:00Z",
    "updated_at": "2025-01-01T00:00:00Z",
}
HEADER = "account_id,account_type,email,full_name,country,created_at,updated_at\n"


@pytest.fixture
def source(tmp_path, warehouse):
    empty(warehouse)
    (tmp_path / "accounts").mkdir()
    return tmp_path


def land(settings, source):
    return {r.entity: r for r in land_directory(settings, 1, str(source), progress=silent)}


def rows(settings, query, role="loader"):
    with db.connect(settings, role) as connection:
        return connection.execute(query).fetchall()


def write_jsonl(path, *records):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def test_csv_jsonl_and_parquet_land_the_same_row(warehouse, source):
    (source / "accounts/a.csv").write_text(HEADER + "a1,customer,,,DE,2025-01-01T00:00:00Z,2025-01-02T00:00:00+01:00\n")
    with gzip.open(source / "accounts/b.csv.gz", "wt") as handle:
        handle.write(HEADER + "a2,customer,,,DE,2025-01-01T00:00:00Z,2025-01-02T00:00:00+01:00\n")
    record = {**ACCOUNT, "account_id": "a3", "country": "DE", "updated_at": "2025-01-01T23:00:00Z"}
    write_jsonl(source / "accounts/c.jsonl", record)
    frame = pd.DataFrame([{**record, "account_id": "a4"}])
    frame[["created_at", "updated_at"]] = frame[["created_at", "updated_at"]].apply(pd.to_datetime, utc=True)
    frame.to_parquet(source / "accounts/d.parquet")
    assert land(warehouse, source)["accounts"].inserted == 4
    landed = rows(warehouse, "select distinct country, created_at, updated_at, application from staging.accounts")
    assert len(landed) == 1 and landed[0]["application"] == "default"


def test_landing_again_changes_nothing(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", ACCOUNT)
    land(warehouse, source)
    before = rows(warehouse, "select * from staging.accounts")
    assert land(warehouse, source)["accounts"].files == 0
    (source / "accounts/copy.jsonl").write_text((source / "accounts/a.jsonl").read_text())
    again = land(warehouse, source)["accounts"]
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 1)
    assert rows(warehouse, "select * from staging.accounts") == before


def test_the_newest_cursor_wins_whatever_the_order_of_delivery(warehouse, source):
    versions = [
        {**ACCOUNT, "country": c, "updated_at": f"2025-01-0{n}T00:00:00Z"} for n, c in ((2, "US"), (3, "DE"), (1, "FR"))
    ]
    for number, record in enumerate(versions):
        write_jsonl(source / f"accounts/{number}.jsonl", record)
        land(warehouse, source)
    assert rows(warehouse, "select country from staging.accounts") == [{"country": "DE"}]
    assert [r["row"]["country"] for r in rows(warehouse, "select row from staging._replaced")] == ["US"]


def test_of_equal_cursors_the_later_delivery_wins(warehouse, source):
    write_jsonl(source / "fx_rates/a.jsonl", {"rate_date": "2025-01-01", "currency": "EUR", "rate_to_reporting": 1.1})
    land(warehouse, source)
    write_jsonl(source / "fx_rates/b.jsonl", {"rate_date": "2025-01-01", "currency": "EUR", "rate_to_reporting": 1.2})
    land(warehouse, source)
    assert float(rows(warehouse, "select rate_to_reporting as r from staging.fx_rates")[0]["r"]) == 1.2


def test_repeated_keys_within_a_first_delivery_are_one_row(warehouse, source):
    write_jsonl(
        source / "accounts/a.jsonl",
        {**ACCOUNT, "country": "US"},
        {**ACCOUNT, "country": "DE", "updated_at": "2025-02-01T00:00:00Z"},
    )
    result = land(warehouse, source)["accounts"]
    assert (result.inserted, result.unchanged) == (1, 1)
    assert rows(warehouse, "select country from staging.accounts") == [{"country": "DE"}]


def test_a_bad_row_is_quarantined_with_file_line_and_every_reason(warehouse, source):
    (source / "accounts/a.csv").write_text(
        HEADER + 'a1,customer,,"two\nlines",,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n\n'
        "a2,alien,,,,2025-01-01T00:00:00,2025-13-01T00:00:00Z\na3,customer\n"
    )
    result = land(warehouse, source)["accounts"]
    assert (result.inserted, result.quarantined) == (1, 2)
    bad = rows(warehouse, "select path, line, reasons from quarantine.rows order by line")
    assert [(r["path"], r["line"]) for r in bad] == [("accounts/a.csv", 5), ("accounts/a.csv", 6)]
    assert len(bad[0]["reasons"]) == 3 and "not a time with a zone" in bad[0]["reasons"][1]
    assert bad[1]["reasons"] == ["2 fields where the header has 7"]


@pytest.mark.parametrize(
    ("entity", "record", "reason"),
    [
        (
            "charges",
            {"amount": "12.5000000000001"},
            "amount: '12.5000000000001' has more than twelve digits after the point",
        ),
        ("charges", {"amount": -1}, "amount: '-1' is less than 0"),
        ("charges", {"amount": None}, "amount: required"),
        ("charges", {"status": "maybe"}, "status: 'maybe' is not one of"),
        ("charges", {"created_at": "0001-01-01T00:00:00Z"}, "created_at: before 1990"),
        ("charges", {"charge_id": "c\x00d"}, "charge_id: text with a null byte"),
    ],
)
def test_what_does_not_fit_the_contract_is_rejected(warehouse, source, entity, record, reason):
    good = {"charge_id": "c1", "account_id": "a", "amount": 1, "currency": "USD", "status": "succeeded",
            "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}  # fmt: skip
    write_jsonl(source / f"{entity}/a.jsonl", good, {**good, "charge_id": "c2", **record})
    assert land(warehouse, source)[entity].quarantined == 1
    assert rows(warehouse, "select reasons from quarantine.rows")[0]["reasons"][0].startswith(reason)


def test_numbers_are_exact_and_long_fractions_are_rounded(warehouse, source):
    (source / "fx_rates").mkdir()
    (source / "fx_rates/a.csv").write_text(
        "rate_date,currency,rate_to_reporting\n2025-01-01,EUR,0.30000000000000004\n2025-01-02,EUR,1.1e-3\n"
    )
    land(warehouse, source)
    assert [
        str(r["r"].normalize())
        for r in rows(warehouse, "select rate_to_reporting as r from staging.fx_rates order by rate_date")
    ] == ["0.3", "0.0011"]


def test_personal_data_is_nowhere_in_clear(warehouse, source):
    (source / "accounts/a.csv").write_text(
        HEADER.strip()
        + ",Comment\na1,customer,Ada@Example.org,Ada Lovelace,,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z,call Ada\n"
        "a2,alien,ada@example.org,Ada Lovelace,,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z,call Ada\n"
    )
    land(warehouse, source)
    everything = str(rows(warehouse, "select * from staging.accounts")) + str(
        rows(warehouse, "select * from quarantine.rows")
    )
    # a hash may hold "ada", by chance, but neither a capital nor what is no hexadecimal digit
    assert "Ada" not in everything and "ada@" not in everything and "lovelace" not in everything.lower()
    hashed = rows(warehouse, "select email from staging.accounts")[0]["email"]
    assert len(hashed) == 64 and f"hashed:{hashed}" in everything


def test_refused_consent_is_not_stored_but_counted(warehouse, source):
    event = {
        "event_id": "e1",
        "event_name": "x",
        "occurred_at": "2025-01-01T00:00:00Z",
        "received_at": "2025-01-01T00:00:00Z",
    }
    write_jsonl(
        source / "events/a.jsonl",
        event,
        {**event, "event_id": "e2", "consent": False},
        {**event, "event_id": "e3", "consent": False, "channel": "smoke"},
    )
    result = land(warehouse, source)["events"]
    assert (result.inserted, result.refused, result.quarantined) == (1, 2, 0)


def test_an_unknown_column_is_kept_and_reported(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", {**ACCOUNT, "shoe_size": 42}, {**ACCOUNT, "account_id": "a2"})
    land(warehouse, source)
    assert [r["_extra"] for r in rows(warehouse, "select _extra from staging.accounts order by account_id")] == [
        {"shoe_size": "42"},
        None,
    ]
    assert rows(warehouse, "select column_name, rows from audit.schema_drift") == [
        {"column_name": "shoe_size", "rows": 1}
    ]


def test_overlapping_rows_of_an_item_go_to_quarantine_together_and_come_back_when_corrected(warehouse, source):
    row = {"subscription_item_id": "i1", "subscription_id": "s", "account_id": "a", "plan_id": "p", "billing_interval": "month",
           "interval_count": 1, "quantity": 1, "unit_amount": 100, "currency": "USD", "status": "active"}  # fmt: skip
    first = {
        **row,
        "valid_from": "2025-01-01T00:00:00Z",
        "valid_to": "2025-03-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
    }
    second = {**row, "valid_from": "2025-02-01T00:00:00Z", "updated_at": "2025-02-01T00:00:00Z"}
    write_jsonl(source / "subscriptions/a.jsonl", first, second)
    land(warehouse, source)
    assert rows(warehouse, "select count(*) as n from staging.subscriptions where _is_overlapping") == [{"n": 2}]
    assert rows(warehouse, "select count(*) as n from quarantine.rows where resolved_at is null") == [{"n": 2}]
    write_jsonl(
        source / "subscriptions/b.jsonl",
        {**first, "valid_to": "2025-02-01T00:00:00Z", "updated_at": "2025-03-01T00:00:00Z"},
    )
    land(warehouse, source)
    assert rows(warehouse, "select count(*) as n from staging.subscriptions where _is_overlapping") == [{"n": 0}]
    assert rows(warehouse, "select count(*) as n from quarantine.rows where resolved_at is null") == [{"n": 0}]


def test_a_changed_file_is_read_again_and_replaces_its_rejected_rows(warehouse, source):
    path = source / "accounts/a.jsonl"
    write_jsonl(path, ACCOUNT, {**ACCOUNT, "account_id": "a2", "account_type": "alien"})
    land(warehouse, source)
    write_jsonl(path, ACCOUNT, {**ACCOUNT, "account_id": "a2", "account_type": "customer"})
    assert land(warehouse, source)["accounts"].inserted == 1
    assert rows(warehouse, "select resolution from quarantine.rows") == [{"resolution": "the file was delivered again"}]


def test_good_files_are_not_read_again_for_each_broken_one(warehouse, source, monkeypatch):
    for n in range(20):
        write_jsonl(source / f"accounts/{n:02}.jsonl", {**ACCOUNT, "account_id": f"a{n}"})
        if n % 2:
            (source / f"accounts/{n:02}b.csv").write_text("account_id\na\n")
    opened, read = [], files.Reading.batches
    monkeypatch.setattr(files.Reading, "batches", lambda self: opened.append(self.file.path) or read(self))
    with pytest.raises(NorthstarError, match=r"01b\.csv: the required column"):
        land(warehouse, source)
    assert rows(warehouse, "select count(*) as n from staging.accounts") == [{"n": 20}]
    # each good file at most once for those before it and once for itself
    assert max(opened.count(path) for path in opened) <= 2


def test_a_file_with_another_delimiter_than_the_contracts_is_told(warehouse, source):
    (source / "accounts/a.csv").write_text("account_id;account_type\na;customer\n")
    with pytest.raises(
        NorthstarError, match=r"a\.csv: the required column account_id is missing; the file looks delimited by ';'"
    ):
        land(warehouse, source)


def test_a_page_in_place_of_a_file_is_told_although_it_has_no_rows(warehouse, source):
    (source / "accounts/a.csv").write_text("<!DOCTYPE html><html><body>Please log in</body></html>\n")
    with pytest.raises(NorthstarError, match=r"a\.csv: the required column account_id is missing"):
        land(warehouse, source)
    (source / "accounts/a.csv").write_text("account_id,account_type,created_at,updated_at\n")
    land(warehouse, source)


def test_replay_lands_what_fits_by_now(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", {**ACCOUNT, "account_type": "alien", "email": "x@y.org"})
    land(warehouse, source)
    with db.connect(warehouse, "loader") as connection:
        connection.execute("""update quarantine.rows set row = jsonb_set(row, '{account_type}', '"user"')""")
    assert quarantine.replay(warehouse).startswith("1 of 1 rows landed")
    assert len(rows(warehouse, "select email from staging.accounts")[0]["email"]) == 64


def test_the_files_of_an_archive_land_once_and_come_back_by_their_own_names(warehouse, source):
    mapping = source / "m.yml"
    mapping.write_text("""
entities:
  accounts:
    files: "*.zip"
    columns:
      account_id: id
      account_type: {column: kind, map: {c: customer}}
      created_at: {constant: 2025-01-01T00:00:00Z}
      updated_at: {constant: 2025-01-01T00:00:00Z}
""")
    with zipfile.ZipFile(source / "export.zip", "w") as archive:
        archive.writestr("north.csv", "id,kind\na1,c\n")
        archive.writestr("south.csv", "id,kind\na2,c\na3,k\n")

    def landed():
        (result,) = land_directory(warehouse, 1, str(source), mapping, progress=silent)
        return result.files, result.inserted, result.quarantined

    assert landed() == (2, 2, 1)
    assert rows(warehouse, "select path, line from quarantine.rows") == [{"path": "export.zip!south.csv", "line": 3}]
    assert landed() == (0, 0, 0)
    # the mapping is mended: the member is read again, from the archive
    mapping.write_text(mapping.read_text().replace("c: customer", "c: customer, k: user"))
    with db.connect(warehouse, "owner") as connection:
        connection.execute(
            "insert into audit.runs (run_id, mode, trigger, as_of, source_dir, mapping) values (1, 'nightly', 'test', '2025-01-02', %s, %s)",
            [str(source), str(mapping)],
        )
    assert quarantine.replay(warehouse).startswith("1 of 1 rows landed")
    assert rows(warehouse, "select account_type from staging.accounts where account_id = 'a3'") == [
        {"account_type": "user"}
    ]
    assert [r["path"] for r in rows(warehouse, "select path from audit.landed_files order by 1")] == [
        "export.zip!north.csv", "export.zip!south.csv",
    ]  # fmt: skip


def truncated_gzip(source):
    data = gzip.compress((HEADER + "a1,customer,,,,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n" * 500).encode())
    (source / "accounts/a.csv.gz").write_bytes(data[: len(data) // 2])


def wrong_encoding(source):
    (source / "accounts/a.csv").write_bytes(
        (HEADER + "a1,customer,,J\xe9r\xf4me,,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n").encode("latin-1")
    )


def duplicate_header(source):
    (source / "accounts/a.csv").write_text("account_id,account_id\n1,2\n")


def directory_as_file(source):
    (source / "accounts/a.csv").mkdir()


def missing_column(source):
    (source / "accounts/a.csv").write_text(
        "account_id,created_at,updated_at\na1,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"
    )


def no_parquet(source):
    (source / "accounts/a.parquet").write_text("hello")


def endless_line(source):
    (source / "accounts/a.jsonl").write_text('{"account_id": "' + "x" * 5_000_000 + '"}\n')


def endless_csv_line(source):
    (source / "accounts/a.csv").write_text(
        HEADER + "a1,customer,," + "x" * 9_000_000 + ",,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated_gzip, ("accounts/a.csv.gz", "cut short")),
        (wrong_encoding, ("accounts/a.csv", "UTF-8")),
        (duplicate_header, ("accounts/a.csv", "'account_id' twice")),
        (directory_as_file, ("accounts/a.csv", "directory")),
        (missing_column, ("accounts/a.csv", "account_type")),
        (no_parquet, ("accounts/a.parquet", "parquet")),
        (endless_line, ("accounts/a.jsonl", "longer than 4 MB")),
        (endless_csv_line, ("accounts/a.csv", "longer than 4 MB")),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_lands_nothing_while_others_land(warehouse, source, spoil, words):
    spoil(source)
    write_jsonl(source / "fx_rates/a.jsonl", {"rate_date": "2025-01-01", "currency": "EUR", "rate_to_reporting": 1.1})
    with pytest.raises(NorthstarError) as caught:
        land(warehouse, source)
    assert all(w in str(caught.value) for w in words) and "\n" not in str(caught.value)
    assert rows(warehouse, "select count(*) as n from staging.accounts") == [{"n": 0}]
    assert rows(warehouse, "select count(*) as n from staging.fx_rates") == [{"n": 1}]
    assert rows(warehouse, "select count(*) as n from audit.landed_files where entity = 'accounts'") == [{"n": 0}]


def test_an_empty_file_is_no_rows(warehouse, source):
    (source / "accounts/a.csv").write_text("")
    (source / "accounts/b.jsonl").write_text("")
    assert land(warehouse, source)["accounts"].read == 0


def test_one_failing_file_of_many_does_not_keep_the_others_out(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", ACCOUNT)
    (source / "accounts/b.parquet").write_text("hello")
    write_jsonl(source / "accounts/c.jsonl", {**ACCOUNT, "account_id": "a2"})
    with pytest.raises(NorthstarError, match=r"accounts/b.parquet"):
        land(warehouse, source)
    assert rows(warehouse, "select count(*) as n from staging.accounts") == [{"n": 2}]


def test_lines_that_are_no_json_are_quarantined_with_their_line(warehouse, source):
    (source / "accounts/a.jsonl").write_text(json.dumps(ACCOUNT) + "\n{broken\n[1]\n")
    assert land(warehouse, source)["accounts"].quarantined == 2
    assert [r["line"] for r in rows(warehouse, "select line from quarantine.rows order by line")] == [2, 3]


@pytest.mark.parametrize("where", ["nowhere", "accounts/a.jsonl"])
def test_a_source_directory_that_is_none_is_one_line(warehouse, source, where):
    write_jsonl(source / "accounts/a.jsonl", ACCOUNT)
    with pytest.raises(NorthstarError, match=r"source directory|is a file"):
        land(warehouse, source / where)


def test_many_small_files_land_in_few_batches(warehouse, source, monkeypatch):
    monkeypatch.setattr(landing_directory, "GROUP_FILES", 20)
    for number in range(50):
        write_jsonl(source / f"accounts/{number:03d}.jsonl", {**ACCOUNT, "account_id": f"a{number}"})
    assert land(warehouse, source)["accounts"].inserted == 50
    assert rows(warehouse, "select count(*) as n from audit.landing_batches") == [{"n": 3}]


def test_a_block_boundary_loses_no_row(warehouse, source, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 4096)
    (source / "accounts/a.csv").write_text(
        HEADER + "".join(f'a{n},customer,,"x\ny",,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n' for n in range(1000))
    )
    assert land(warehouse, source)["accounts"].inserted == 1000


HEAD = b"account_id,account_type,country,created_at,updated_at\n"


def written(place, content: bytes, ago: float = 0) -> None:
    """A file that was written to so many seconds ago."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    at = time.time() - ago
    os.utime(place, (at, at))


def accounts(settings) -> list:
    return query_as(settings, "loader", "select account_id, country from staging.accounts order by 1")


def test_a_line_that_is_being_written_is_no_row_until_it_has_its_end(warehouse, tmp_path):
    empty(warehouse)
    line = b"a1,customer,DE,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z"
    place, said = tmp_path / "accounts" / "a.csv", []
    # its date is cut in the midst: a row by its form, and another one by what it says
    written(place, HEAD + line + b"\na2,customer,FR,2025-01-02T00:00:00Z,2025-01-0")
    land_directory(warehouse, None, str(tmp_path), progress=said.append)
    assert [r["account_id"] for r in accounts(warehouse)] == ["a1"]
    assert "the last line of accounts/a.csv has no end yet and waits for the next run" in said[0]
    # nobody says that it is read: the file is looked at again
    written(place, HEAD + line + b"\na2,customer,FR,2025-01-02T00:00:00Z,2025-01-02T00:00:00Z\n")
    land_directory(warehouse, None, str(tmp_path), progress=silent)
    assert [r["account_id"] for r in accounts(warehouse)] == ["a1", "a2"]
    assert query_as(warehouse, "loader", "select count(*) as n from quarantine.rows")[0]["n"] == 0


def test_a_file_that_has_stopped_growing_is_whole_without_a_last_line_end(warehouse, tmp_path):
    empty(warehouse)
    place = tmp_path / "accounts" / "a.csv"
    line = b"a1,customer,DE,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z"
    written(place, HEAD + line)
    assert land_directory(warehouse, None, str(tmp_path), progress=silent)[0].unfinished_files == ["accounts/a.csv"]
    assert accounts(warehouse) == []
    written(place, HEAD + line, ago=31)
    assert land_directory(warehouse, None, str(tmp_path), progress=silent)[0].unfinished_files == []
    assert [r["account_id"] for r in accounts(warehouse)] == ["a1"]
    # and is not read again
    assert land_directory(warehouse, None, str(tmp_path), progress=silent)[0].files == 0


def test_a_line_of_json_that_can_be_read_is_whole(warehouse, tmp_path):
    empty(warehouse)
    place = tmp_path / "accounts" / "a.jsonl"
    row = {"account_id": "a1", "account_type": "customer", "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}  # fmt: skip
    written(place, json.dumps(row).encode())
    assert land_directory(warehouse, None, str(tmp_path), progress=silent)[0].inserted == 1
    written(place, json.dumps(row).encode() + b"\n" + json.dumps(row | {"account_id": "a2"}).encode()[:-5])
    assert land_directory(warehouse, None, str(tmp_path), progress=silent)[0].unfinished_files == ["accounts/a.jsonl"]
    assert [r["account_id"] for r in accounts(warehouse)] == ["a1"]


def test_the_half_line_may_be_longer_than_a_block(warehouse, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    place = tmp_path / "accounts" / "a.csv"
    written(place, HEAD + b"a1,customer," + b"x" * 1_000)
    listed = files.list_files(str(tmp_path), "accounts/*")[0]
    assert files.without_unfinished_line(listed).finished_bytes == len(HEAD)
    written(place, b"account_id," + b"x" * 1_000)
    assert files.without_unfinished_line(listed).finished_bytes == 0


@pytest.mark.parametrize(
    ("entity", "record"),
    [
        ("uptime_checks", {"service": "api", "checked_at": "2025-01-01T00:00:00Z", "is_up": True}),
        ("resource_samples", {"resource": "db", "sampled_at": "2025-01-01T00:00:00Z"}),
        ("query_stats", {"query_id": "q", "window_start": "2025-01-01T00:00:00Z", "calls": 1, "total_ms": 1}),
        ("creator_earnings", {"creator_id": "c", "earned_on": "2025-01-01", "amount": 1, "currency": "USD"}),
        ("package_downloads", {"downloaded_on": "2025-01-01", "package": "p", "downloads": 1}),
    ],
)
def test_two_applications_rows_are_two_rows(warehouse, source, entity, record):
    records = [{**record, "application": name} for name in ("a", "b")] + [record]
    write_jsonl(source / entity / "a.jsonl", *records)
    assert land(warehouse, source)[entity].inserted == 3
    write_jsonl(source / entity / "b.jsonl", *records)
    assert land(warehouse, source)[entity].unchanged == 3


def test_a_key_that_is_no_id_of_its_own_names_its_application():
    ids = ("_id", "rate_date", "currency")
    without = {e.name: e.key for e in entities().values() if "application" not in e.key and not e.key[0].endswith(ids)}
    # subscriptions: an item's id, with the time from which its terms hold
    assert without == {}


def test_files_that_nobody_reads_are_told_once_and_shown_by_status(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", ACCOUNT)
    (source / "accounts/b.xlsx").write_text("x")
    (source / "accounts/.c.csv.swp").write_text("x")
    lines: list[str] = []
    land_directory(warehouse, 1, str(source), progress=lines.append)
    told = "  accounts: accounts/b.xlsx is not read; deliver csv, tsv, jsonl, ndjson, json or parquet"
    assert told in lines and not any("c.csv" in line for line in lines)
    assert "not read    accounts/b.xlsx: files of no format that is read" in status(warehouse)
    lines.clear()
    land_directory(warehouse, 1, str(source), progress=lines.append)
    assert lines == []
    (source / "accounts/b.xlsx").unlink()
    land_directory(warehouse, 1, str(source), progress=lines.append)
    assert "not read" not in status(warehouse)


def test_an_attempt_that_was_never_committed_does_not_land(warehouse, source):
    write_jsonl(source / "accounts/a.jsonl", ACCOUNT)
    write_jsonl(source / "accounts/_temporary/0/b.jsonl", {**ACCOUNT, "account_id": "a2"})
    assert land(warehouse, source)["accounts"].inserted == 1
