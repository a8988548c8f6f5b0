"""What stands around the work of Spark, without it; tests/spark has the rest."""

from northstar.build.wide import handed_over
from northstar.warehouse import db
from tests.support import query_as, silent


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
