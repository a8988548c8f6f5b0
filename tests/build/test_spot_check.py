"""The drawn accounts and hours are built again from the lake's files, and a difference stops the run."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Operations
from northstar.build.manifest import read_manifest
from northstar.build.spot_check import check_drawn
from northstar.contract import entities
from northstar.warehouse import db, lake
from tests.support import query_as, silent
from tests.warehouse.test_lake import directory_of, opened


@pytest.fixture(scope="module")
def in_lake(built, tmp_path_factory):
    """The small company, as Postgres built it, with a lake."""
    settings = replace(built, operations=Operations(lake=str(tmp_path_factory.mktemp("lake"))))
    lake.complete(settings, opened(settings))
    yield settings
    with db.connect(built, "loader") as connection:
        connection.execute("delete from audit.lake_files")
    with db.connect(built, "transformer") as connection:
        connection.execute("delete from audit.checks where suite = 'wide_models'")


@pytest.fixture(scope="module")
def latest(in_lake) -> dict:
    [run] = query_as(in_lake, "transformer", "select * from audit.runs order by run_id desc limit 1")
    return run


@pytest.fixture(scope="module")
def wide(in_lake) -> list[str]:
    nodes = read_manifest(in_lake)["nodes"].values()
    return [n["name"] for n in nodes if "wide" in n["config"].get("tags", []) and n["name"] != "engine_facts"]


def line(settings) -> dict:
    [row] = query_as(settings, "transformer", "select * from audit.checks where suite = 'wide_models'")
    return row


def test_postgres_makes_every_row_again_from_the_files(in_lake, latest, wide):
    results = check_drawn(in_lake, latest, wide, silent, share=1)
    assert {r.model for r in results} == set(wide) and all(r.rows and not r.differing for r in results)
    for result in results:
        node = next(n for n in read_manifest(in_lake)["nodes"].values() if n["name"] == result.model)
        [standing] = query_as(in_lake, "transformer", f"select count(*) as n from {node['relation_name']}")
        assert result.rows == standing["n"], result.model
    assert line(in_lake)["success"]


def test_one_in_a_thousand_is_drawn_and_by_each_run_others(in_lake, latest, wide):
    results = check_drawn(in_lake, latest, wide, silent)
    first = line(in_lake)["observed"]
    assert first.startswith(f"{sum(r.rows for r in results)} rows of {len(wide)} models (accounts: 1, hours: ")
    check_drawn(in_lake, latest, wide, silent)
    assert line(in_lake)["observed"] == first
    check_drawn(in_lake, latest | {"run_id": latest["run_id"] + 1}, wide, silent)
    lines = query_as(in_lake, "transformer", "select observed from audit.checks where suite = 'wide_models'")
    assert len({row["observed"] for row in lines}) == 2


@pytest.mark.parametrize(
    ("table", "change", "back"),
    [
        ("core.event_hours", "set events = events + 1", "set events = events - 1"),
        ("core.activity_days", "set channel = '-' || channel", "set channel = substr(channel, 2)"),
        ("marts_candidate.fct_sessions", "set events = events + 1", "set events = events - 1"),
    ],
)
def test_a_difference_stops_the_run_and_is_on_record(in_lake, latest, wide, table, change, back):
    with db.connect(in_lake, "transformer") as connection:
        connection.execute(f"update {table} {change}")
    try:
        with pytest.raises(NorthstarError) as caught:
            check_drawn(in_lake, latest, wide, silent, share=10)
    finally:
        with db.connect(in_lake, "transformer") as connection:
            connection.execute(f"update {table} {back}")
    model = table.partition(".")[2]
    assert f" of {model}): nothing is published; set `wide_engine: postgres`" in str(caught.value)
    found = query_as(
        in_lake,
        "transformer",
        "select success, sample from audit.checks where suite = 'wide_models' and run_id = %s",
        latest["run_id"],
    )
    assert found == [{"success": False, "sample": [model]}]


def test_a_row_that_moved_to_another_hour_counts_there_alone(in_lake, latest, wide):
    """Whichever hour is drawn, a former version of an event is in it; the event itself is in another."""
    directory, entity = directory_of(in_lake), entities()["events"]
    [event] = query_as(
        in_lake,
        "loader",
        f"select {', '.join(entity.stored_columns)} from staging.events where account_id is not null order by event_id limit 1",
    )
    hours = query_as(in_lake, "transformer", "select distinct event_hour from core.event_hours")
    former = [event | {"properties": None, "_batch_id": -1, "occurred_at": row["event_hour"]} for row in hours]
    path = directory / "events" / f"former.{lake.LAYOUT}.parquet"
    pq.write_table(pa.Table.from_pylist(former, schema=lake.file_schema(entity)), path)
    with db.connect(in_lake, "loader") as connection:
        connection.execute(
            "insert into audit.lake_files (entity, batch_id, path, rows, bytes) values ('events', -1, %s, %s, %s)",
            [str(path.relative_to(directory)), len(former), path.stat().st_size],
        )
    try:
        assert not any(r.differing for r in check_drawn(in_lake, latest, wide, silent))
    finally:
        with db.connect(in_lake, "loader") as connection:
            connection.execute("delete from audit.lake_files where batch_id = -1")
