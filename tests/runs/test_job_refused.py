"""What stopped a run stops every later one until its cause is gone, or somebody has said by name that it may be so."""

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Operations, Rules
from northstar.extract.landing import engine
from northstar.extract.landing.directory import land_directory
from northstar.runs import quarantine
from northstar.runs.lifecycle import close_run, open_run
from northstar.runs.maintenance import maintain
from northstar.warehouse import db
from tests.support import empty, query_as, run, select, silent, utc, write_rows

END = utc("2026-02-01T00:00:00")
AT = "2026-01-10T10:00:00Z"
MAPPING = """
entities:
  charges:
    files: "export.jsonl"
    columns:
      charge_id: id
      account_id: customer
      amount: cents
      currency: {constant: USD}
      status: {column: state, map: {MAP}, default: unheard_of}
      created_at: at
      updated_at: at
  accounts:
    files: "people.jsonl"
    columns: {account_id: id, account_type: {constant: customer}, created_at: at, updated_at: at}
"""


def charges(first: int, count: int, status: str) -> list[dict]:
    return [
        {"charge_id": f"c{n}", "account_id": "a", "application": "web", "amount": 100, "currency": "USD", "status": status,
         "created_at": AT, "updated_at": AT}
        for n in range(first, first + count)
    ]  # fmt: skip


ACCOUNTS = [{"account_id": "a", "account_type": "customer", "application": "web", "created_at": AT, "updated_at": AT}]


def unsettled(settings) -> int:
    return query_as(settings, "loader", "select count(*) as n from quarantine.rows where resolved_at is null")[0]["n"]


def test_rejected_rows_stop_every_run_until_somebody_accepts_that_they_are_missing(warehouse, tmp_path):
    empty(warehouse)
    source = write_rows(tmp_path, {"accounts": ACCOUNTS, "charges": charges(0, 200, "paid")})
    with pytest.raises(
        NorthstarError,
        match=r"charges: 200 of 200 rows quarantined, landed by run .*quarantine accept --entity charges",
    ):
        run(warehouse, source, END)
    # no file is new, and then so many good rows that the bad ones are few among them
    write_rows(source, {"charges": charges(1_000, 5_000, "succeeded")}, "more")
    with pytest.raises(NorthstarError, match="200 of 200 rows quarantined"):
        run(warehouse, source, END + timedelta(hours=1), "hourly")
    with db.connect(warehouse, "owner") as connection:
        connection.execute("update quarantine.rows set quarantined_at = quarantined_at - interval '9 days'")
    forgetful = replace(warehouse, operations=warehouse.operations.model_copy(update={"keep_quarantine_days": 7}))
    assert maintain(forgetful, progress=silent)["people"] == {} and unsettled(warehouse) == 200
    with pytest.raises(NorthstarError, match="--because"):
        quarantine.accept(warehouse, "charges", " ")
    told = quarantine.accept(warehouse, "charges", "an old export that the shop cannot repeat", "ada")
    assert told == "200 rejected rows of charges are accepted as missing by ada"
    version = run(warehouse, source, END + timedelta(hours=1), "hourly")
    (certificate,) = select(warehouse, "select left_out from certificates where published_version = %s", version)
    (accepted,) = certificate["left_out"]["accepted"]
    assert (accepted["entity"], accepted["rows"], accepted["by"]) == ("charges", 200, "ada")
    assert accepted["because"] == "an old export that the shop cannot repeat" and accepted["at"]
    assert select(warehouse, "select count(*) as n from fct_payments") == [{"n": 5_000}] and unsettled(warehouse) == 200


@pytest.fixture
def shop(warehouse, tmp_path):
    """(settings, source, mapping) of a shop whose mapping does not know what `paid` is: all its charges are rejected."""
    empty(warehouse)
    lines = [{"id": f"c{n}", "customer": "a", "cents": 100, "state": "paid", "at": AT} for n in range(30)]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "export.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "source" / "people.jsonl").write_text(json.dumps({"id": "a", "at": AT}) + "\n")
    mapping = tmp_path / "shop.yml"
    mapping.write_text(MAPPING.replace("MAP", "settled: succeeded"))
    run_id = open_run(warehouse, "nightly", END, str(tmp_path / "source"), mapping=str(mapping))
    land_directory(warehouse, run_id, str(tmp_path / "source"), mapping, progress=silent)
    close_run(warehouse, run_id)
    assert unsettled(warehouse) == 30
    return warehouse, tmp_path / "source", mapping


def mend(mapping) -> None:
    mapping.write_text(MAPPING.replace("MAP", "paid: succeeded"))


def read(settings, source, mapping) -> dict[str, int]:
    """{entity: files read} of landing once more."""
    found = land_directory(settings, None, str(source), mapping, progress=silent)
    return {result.entity: result.files for result in found}


def test_a_changed_mapping_has_exactly_its_files_read_again(shop):
    settings, source, mapping = shop
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 0}
    mend(mapping)
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 1}
    assert unsettled(settings) == 0
    assert query_as(settings, "loader", "select count(*) as n from staging.charges") == [{"n": 30}]
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 0}


def test_files_are_read_again_when_the_functions_of_mappings_read_otherwise(shop, monkeypatch):
    """What number() refuses by now may have landed with the digits that were left."""
    settings, source, mapping = shop
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 0}
    monkeypatch.setattr(engine, "READING", engine.READING + 1)
    assert read(settings, source, mapping) == {"accounts": 1, "charges": 1}
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 0}


def test_what_an_older_release_read_is_taken_for_read_as_it_is_now(shop):
    settings, source, mapping = shop
    with db.connect(settings, "loader") as connection:
        connection.execute("update audit.landed_files set reading = null")
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 0}


def test_a_file_that_is_replaced_within_its_size_and_time_is_noticed(shop):
    settings, source, mapping = shop
    path = source / "people.jsonl"
    before = path.stat()
    path.write_text(json.dumps({"id": "b", "at": AT}) + "\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert read(settings, source, mapping) == {"accounts": 1, "charges": 0}


def test_a_replay_reads_the_source_s_own_rows(shop):
    settings, _, mapping = shop
    assert quarantine.replay(settings) == "0 of 30 rows landed; nothing changes with the next run"
    mend(mapping)
    assert quarantine.replay(settings) == "30 of 30 rows landed; the next run publishes them"
    assert query_as(settings, "loader", "select distinct status from staging.charges") == [{"status": "succeeded"}]


def test_what_is_read_again_and_still_bad_stays_the_row_that_somebody_accepted(shop):
    settings, source, mapping = shop
    quarantine.accept(settings, "charges", "the shop's own tests", "ada")
    quarantine.replay(settings)
    (source / "export.jsonl").touch()
    assert read(settings, source, mapping) == {"accounts": 0, "charges": 1}
    found = query_as(
        settings,
        "loader",
        "select count(*) as n, count(accepted_by) as accepted from quarantine.rows where resolved_at is null",
    )
    assert found == [{"n": 30, "accepted": 30}]


def test_a_replay_waits_for_no_run_and_disturbs_none(shop):
    settings, source, mapping = shop
    run_id = open_run(settings, "nightly", END, str(source), mapping=str(mapping))
    with pytest.raises(NorthstarError, match=f"run {run_id} .* is writing to this warehouse"):
        quarantine.replay(settings)
    close_run(settings, run_id)
    quarantine.replay(settings)
    assert query_as(settings, "transformer", "select 1 from audit.writer_lease") == []


def test_spark_is_refused_where_days_are_not_those_of_utc(warehouse):
    settings = replace(
        warehouse,
        rules=Rules(reporting_time_zone="Europe/Berlin"),
        operations=Operations(wide_engine="spark", lake="lake"),
    )
    with pytest.raises(NorthstarError, match="Spark counts days in UTC, and `reporting_time_zone` is Europe/Berlin"):
        open_run(settings, "nightly", END)


def test_a_time_zone_that_the_server_does_not_know_is_a_line(warehouse):
    newer = Rules().model_copy(update={"reporting_time_zone": "Mars/Olympus_Mons"})
    with pytest.raises(
        NorthstarError, match=r'cannot give the roles their settings: invalid value .*"Mars/Olympus_Mons"'
    ):
        open_run(replace(warehouse, rules=newer), "nightly", END)
