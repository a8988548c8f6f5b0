"""What stands around the work of Spark, without it; tests/spark has the rest."""

import pytest

from northstar.base.errors import BuildFailed
from northstar.build.wide import handed_over
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
