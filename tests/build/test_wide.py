"""What stands around the work of Spark, without it; tests/spark has the rest."""

import sys
from dataclasses import replace

import pytest

from northstar.base.errors import BuildFailed, NorthstarError
from northstar.base.ports import free_port
from northstar.base.settings import Operations
from northstar.build.wide import handed_over, troubles
from northstar.operate.doctor import examine
from northstar.warehouse import db
from tests.support import empty, query_as, run, silent, utc, write_rows


def test_a_build_removes_what_a_killed_one_left_of_its_handover(warehouse):
    with_rows = warehouse.home / "wide" / "run-7" / "activity_days"
    with_rows.mkdir(parents=True)
    (with_rows / "part.parquet").write_bytes(b"rows")
    with db.connect(warehouse, "transformer") as connection:
        connection.execute("create table core._handed_over__activity_days (account_id text)")
    with handed_over(warehouse, {"run_id": 8, "is_full": False}, silent) as models:
        assert models == []
    assert not (warehouse.home / "wide").exists()
    assert query_as(warehouse, "transformer", "select 1 from pg_tables where tablename like '\\_handed%%'") == []


def test_a_postgres_that_reckons_otherwise_builds_nothing(warehouse, tmp_path):
    empty(warehouse)
    role = db.role_name(warehouse, "transformer")
    # an old rule, by which a backslash escapes the letter behind it
    change = f'alter role "{role}" {{}} standard_conforming_strings'
    with db.connect(warehouse, "owner") as connection:
        connection.execute(change.format("set") + " = off")
    source = write_rows(
        tmp_path,
        {
            "events": [
                {
                    "event_id": "e1",
                    "event_name": "user.login",
                    "occurred_at": "2026-02-10T10:00:00Z",
                    "received_at": "2026-02-10T10:00:00Z",
                }
            ]
        },
    )
    try:
        with pytest.raises(BuildFailed) as caught:
            run(warehouse, source, utc("2026-03-01T00:00:00"))
    finally:
        with db.connect(warehouse, "owner") as connection:
            connection.execute(change.format("reset"))
    assert str(caught.value) == (
        "nothing was built: this Postgres does not reckon as the models need it: an underscore is meant as one after a backslash"
    )
    assert query_as(warehouse, "transformer", "select to_regclass('core.event_hours') as built") == [{"built": None}]


@pytest.fixture
def on_spark(warehouse, tmp_path, monkeypatch):
    """The warehouse with Spark turned on, and a directory of programs of which it finds only those."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return replace(
        warehouse, operations=Operations(lake=str(tmp_path / "lake"), wide_engine="spark", spark_python=sys.executable)
    )


def write_java(place, version: str) -> None:
    (place / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-11-17' >&2\n")
    (place / "java").chmod(0o755)


@pytest.mark.parametrize(
    ("version", "seen"),
    [("1.8.0_402", "is 8"), ("11.0.24", "is 11"), ("17.0.21.1", None), ("21.0.9", None), ("25-ea", None)],
)
def test_a_java_that_is_too_old_is_named_with_what_to_install(on_spark, tmp_path, version, seen):
    write_java(tmp_path, version)
    found = [f"{problem}: {remedy}" for problem, remedy in troubles(on_spark)]
    assert bool(found) == bool(seen)
    if seen:
        assert found[0].startswith(
            f"Spark needs Java 17 or newer, and {tmp_path}/java {seen}: on Debian, apt-get install openjdk-17"
        )


def test_what_spark_lacks_is_found_by_doctor_and_stops_a_run_with_the_same_line(on_spark, tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    operations = on_spark.operations.model_copy(
        update={"spark_python": str(tmp_path / "none"), "spark_memory_mb": 10**9}
    )
    settings = replace(on_spark, operations=operations)
    found = [finding for finding in examine(settings) if finding.check == "spark"]
    assert [finding.seen.split(",")[0] for finding in found] == [
        f"Spark's environment is missing ({tmp_path}/none)",
        "Spark needs Java 17 (there is none in JAVA_HOME",
        "spark_memory_mb is 1000000000",
    ]
    with (
        pytest.raises(NorthstarError) as caught,
        handed_over(settings, {"run_id": 8, "is_full": True, "rebuilds": None}, silent),
    ):
        pass
    assert str(caught.value) == (
        f"{found[0].seen}: `make setup-spark` makes it; or run again, or set `wide_engine: postgres` in operations.yml meanwhile"
    )
    write_java(tmp_path, "17.0.21")
    monkeypatch.delenv("JAVA_HOME")
    [fine] = [finding for finding in examine(on_spark) if finding.check == "spark"]
    assert not fine.is_wrong and fine.seen == "builds the models with the tag wide, on local"
    [about_lake] = [finding for finding in examine(on_spark) if finding.check == "lake"]
    assert not about_lake.is_wrong and about_lake.seen == f"{tmp_path}/lake: 0 files, 0 MB"
    master = f"spark://127.0.0.1:{free_port()}"
    away = on_spark.operations.model_copy(update={"spark_master": master, "lake": "sss://company/lake"})
    found = {f.check: f for f in examine(replace(on_spark, operations=away)) if f.check in ("lake", "spark")}
    assert found["spark"].is_wrong and found["spark"].seen == f"no master answers at {master}"
    assert found["lake"].is_wrong and "Protocol not known: sss" in found["lake"].seen
