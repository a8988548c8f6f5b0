"""What a publication records for charts, on a few planted rows of a published warehouse; everything is taken back at the end."""

import pytest
from psycopg.types.json import Jsonb

from northstar.publish.marks import record_marks, record_rollback
from northstar.warehouse import db
from northstar.warehouse.published.past import read_version
from tests.support import utc

AS_OF = utc("2026-03-01")
RESTATED = (
    "insert into marts.metric_restatements (metric_id, grain, period_start, application, segment, segment_value, old_value, new_value, old_version, new_version, reason, reasons) "
    "select %s, 'month', '2026-02-01', %s, %s, '', %s, %s, 1, 2, %s, array[%s]"
)


@pytest.fixture
def second(built):
    """A connection in whose transaction a version 2 is being published, by a run of other models."""
    with db.connect(built, "owner") as connection:
        connection.execute("create temp table next on commit drop as select * from marts.publications")
        connection.execute("update next set published_version = 2")
        connection.execute("insert into marts.publications select * from next")
        connection.execute("create temp table newest on commit drop as select * from marts.certificates")
        connection.execute("update newest set published_version = 2")
        yield connection
        connection.rollback()


def certify(connection, code: str | None = None, **rules: object) -> None:
    """The certificate of version 2, as that of version 1 but for the code and these rules."""
    connection.execute("update newest set code_version = coalesce(%s, code_version), rules = rules || %s", [code, Jsonb(rules)])  # fmt: skip
    connection.execute("insert into marts.certificates select * from newest")


def recorded(connection, run_id: int = 99) -> dict[str, dict]:
    before = {row["mark_id"] for row in connection.execute("select mark_id from marts.marks").fetchall()}
    record_marks(connection, {"run_id": run_id, "as_of": AS_OF}, 2, 1)
    return {row["kind"]: row for row in connection.execute("select * from marts.marks").fetchall() if row["mark_id"] not in before}  # fmt: skip


def test_a_publication_that_changes_nothing_records_nothing(second):
    certify(second)
    assert recorded(second) == {}


def test_a_changed_model_is_a_mark_on_the_metrics_that_it_restated(second):
    certify(second, code="another")
    second.execute(RESTATED, ["mrr", "web", "", 100, 150, "definition", "definition"])
    # of all applications of a metric only one: the mark is about that
    second.execute(RESTATED, ["mrr", "all", "", 100, 150, "definition", "definition"])
    marks = recorded(second)
    assert set(marks) == {"definition_change"}
    mark = marks["definition_change"]
    assert (mark["marked_at"], mark["application"], mark["metrics"]) == (AS_OF, "web", ["mrr"])
    assert (mark["title"], mark["details"]) == ("models changed", "1 metric restated, from 2026-02-01 on")


def test_a_changed_setting_is_named(second):
    certify(second, renewal_gap_days=17)
    mark = recorded(second)["definition_change"]
    assert (mark["title"], mark["details"], mark["metrics"]) == ("settings changed: renewal gap days", "no complete value is restated", [])  # fmt: skip


def test_only_a_large_restatement_is_a_mark(second):
    certify(second)
    second.execute(RESTATED, ["mrr", "all", "", 1000, 1009, "late_rows", "late_rows"])
    # a segment, and a metric of level 3, may change as they like
    second.execute(RESTATED, ["arr", "all", "country", 10, 90, "late_rows", "late_rows"])
    second.execute(RESTATED, ["first_response_time", "all", "", 10, 90, "late_rows", "late_rows"])
    second.execute("update marts.metrics set level = 3 where metric_id = 'first_response_time'")
    assert recorded(second) == {}
    second.execute(RESTATED, ["customer_churn_rate", "all", "", None, 4, "late_rows", "late_rows"])
    second.execute("delete from marts.metric_restatements where new_value = 1009")
    second.execute(RESTATED, ["mrr", "all", "", 1000, 1010, "correction", "correction"])
    mark = recorded(second)["restatement"]
    assert mark["metrics"] == ["customer_churn_rate", "mrr"]
    assert mark["title"] == "2 metrics restated by 1 % or more"


def test_a_backfill_is_a_mark_with_its_reason(second):
    certify(second)
    second.execute(
        "insert into audit.backfills (run_id, from_at, to_at, reason, asked_by, sources, started_at) values (99, '2026-01-01', '2026-02-01', 'invoices came late', 'ana', '{}', now())"
    )
    mark = recorded(second)["backfill"]
    assert (mark["title"], mark["by_whom"]) == ("backfill of 2026-01-01 to 2026-02-01", "ana")
    assert mark["details"] == "invoices came late: 0 values restated"


def test_what_kept_a_publication_from_happening_is_a_mark_once(second):
    certify(second)
    second.execute("insert into audit.runs (run_id, mode, as_of, is_full, trigger, started_at, state, stage) values (98, 'hourly', %s, false, 'test', clock_timestamp(), 'failed', 'audit')", [AS_OF])  # fmt: skip
    second.execute("insert into audit.holds (began_at, because, by_whom, ended_at) values (clock_timestamp(), 'prices are checked', 'ana', clock_timestamp())")  # fmt: skip
    marks = recorded(second)
    assert marks["failed_publication"]["title"] == "run 98 failed in audit"
    assert (marks["hold"]["details"], marks["hold"]["by_whom"]) == ("prices are checked", "ana")
    assert recorded(second) == {}


def test_an_earlier_version_has_the_marks_of_its_time(second, built):
    certify(second, code="another")
    second.execute("update marts.publications set restores_version = 1 where published_version = 2")
    assert set(recorded(second)) == {"definition_change"}
    record_rollback(second, 2)
    read_version(second, built, 1)
    then = second.execute("select kind, count(*) as n from marts_at_version.marks group by 1 order by 1").fetchall()
    assert {row["kind"] for row in then} == {"deployment", "incident"}
    read_version(second, built, 2)
    now = second.execute("select * from marts_at_version.marks where kind = 'rollback'").fetchall()
    assert [row["title"] for row in now] == ["version 1 was put back"]


def test_every_deployment_that_ended_and_every_incident_is_a_mark(built):
    with db.connect(built, "owner") as connection:
        landed = connection.execute(
            "select (select count(*) from staging.deployments where status != 'running') as deployment, (select count(*) from staging.incidents) as incident"
        ).fetchone()
    with db.connect(built, "bi_reader") as connection:
        marked = connection.execute("select kind, count(*) as n from marks where kind in ('deployment', 'incident') group by 1").fetchall()  # fmt: skip
    assert {row["kind"]: row["n"] for row in marked} == landed
