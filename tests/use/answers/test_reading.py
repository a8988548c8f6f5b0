"""An answer reads one version from its first statement to its last, as bi_reader, and a caller who may not ask gets no answer."""

from contextlib import contextmanager

import psycopg
import pytest

from northstar.use.answers import reading as reading_module
from northstar.use.answers.changes import list_restatements, what_changed
from northstar.use.answers.customers import list_customers
from northstar.use.answers.explanation import explain
from northstar.use.answers.marks import list_marks
from northstar.use.answers.metrics import get_metric, list_metrics
from northstar.use.answers.query import run_query
from northstar.use.answers.reading import SCOPES, Desk
from northstar.use.answers.refusals import Refused
from northstar.use.answers.status import get_status
from northstar.use.answers.targets import list_targets
from northstar.use.answers.values import compare_periods, get_value, list_values
from northstar.warehouse import db

CHOSEN = "series_id in (select series_id from marts.metric_series where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = '') and period_start = '2026-02-01'"
COPIES = (
    "create temporary table copy as select * from marts.publications where published_version = 1; update copy set published_version = 2, published_at = now(); "
    "insert into marts.publications select * from copy; create temporary table evidence as select * from marts.certificates where published_version = 1; "
    "update evidence set published_version = 2; insert into marts.certificates select * from evidence"
)


@contextmanager
def second_version(settings):
    """A second published version, in which the newest MRR came, for as long as the context lasts."""
    with db.connect(settings, "owner") as connection:
        connection.execute(COPIES)
        connection.execute(f"update marts.metric_points set _version = 2 where {CHOSEN}")
    try:
        yield
    finally:
        with db.connect(settings, "owner") as connection:
            connection.execute(f"update marts.metric_points set _version = 1 where {CHOSEN}")
            connection.execute("delete from marts.publications where published_version = 2; delete from marts.certificates where published_version = 2")  # fmt: skip


def test_an_answer_is_of_one_version(desk, ask, built):
    before = ask(get_value, "mrr")
    with desk.reading() as reading:
        first = reading.provenance
        with second_version(built):
            # published while the answer is made: it stays with the version that it began with
            assert get_value(reading, "mrr") == before and reading.provenance == first
            newest = ask(get_value, "mrr", "2026-02")
            assert newest.provenance.version == 2 and newest.value.value == before.value.value
            earlier = ask(get_value, "mrr", "2026-02", version=1)
            assert earlier.provenance.version == 1 and not earlier.provenance.is_newest
            assert earlier.value.value != before.value.value
            rows = ask(run_query, "select count(*) from publications", version=1, is_apart=True)
            assert rows.rows == [[1]] and rows.provenance.version == 1
            assert [v.version for v in ask(what_changed).versions] == [2]
            assert explain_note(ask(explain, "mrr", "2026-01", with_rows=True, version=1)) == "newest version only"
    assert ask(get_value, "mrr", version=1) == before
    for version in (0, -1, 7, 2**62):
        with pytest.raises(Refused, match="never published") as refused:
            ask(get_value, "mrr", version=version)
        assert refused.value.reason == "not_published"


def explain_note(answer) -> str:
    return "newest version only" if "of the newest version only" in answer.note else answer.note


@pytest.mark.parametrize(("function", "values", "scope"), [
    (list_metrics, (), "metrics"), (get_metric, ("mrr",), "metrics"), (list_values, ("mrr",), "metrics"), (get_value, ("mrr",), "metrics"),
    (compare_periods, ("mrr",), "metrics"), (explain, ("mrr",), "metrics"), (list_restatements, (), "metrics"), (what_changed, (), "metrics"),
    (list_targets, (), "metrics"), (list_marks, (), "metrics"), (get_status, (), "metrics"), (list_customers, (), "customers"), (run_query, ("select 1",), "sql"),
])  # fmt: skip
def test_each_answer_needs_its_scope(ask, function, values, scope):
    answer = ask(function, *values, scopes=[scope])
    assert answer.provenance.version == 1
    with pytest.raises(Refused, match=f"needs the scope {scope}") as refused:
        ask(function, *values, scopes=set(SCOPES) - {scope})
    assert refused.value.reason == "not_allowed"


def test_rows_need_a_scope_of_their_own(ask):
    with pytest.raises(Refused, match="needs the scope rows"):
        ask(explain, "mrr", with_rows=True, scopes=["metrics"])


def test_a_reading_changes_nothing_and_leaves_nothing(built):
    desk = Desk(built, connections=1, seconds=0.2)
    try:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), desk.reading() as reading:
            reading.connection.execute("create temporary table x (n int)")
        with pytest.raises(Refused, match="takes longer than") as refused, desk.reading() as reading:
            reading.rows("select pg_sleep(5)")
        assert refused.value.reason == "too_much"
        # a kept connection that the server has closed is replaced
        with desk.reading() as reading:
            number = reading.connection.info.backend_pid
        with db.connect(built, "owner") as connection:
            connection.execute("select pg_terminate_backend(%s, 5000)", [number])
        with desk.reading() as reading:
            assert reading.connection.info.backend_pid != number
            kept = reading.connection
        # what a caller's own statement leaves in a session goes with it
        with desk.reading(is_apart=True) as reading:
            run_query(reading, "select set_config('search_path', 'pg_catalog', false)")
            assert reading.connection is not kept
        assert reading.connection.closed
    finally:
        desk.close()
    assert kept.closed


def test_callers_statements_do_not_keep_others_waiting(desk, built, monkeypatch):
    monkeypatch.setattr(reading_module, "WAIT_SECONDS", 0.05)
    with desk.reading(is_apart=True), desk.reading(is_apart=True):
        with pytest.raises(Refused) as refused, desk.reading(is_apart=True):
            pass
        assert refused.value.reason == "busy"
        with desk.reading() as reading:
            assert get_value(reading, "mrr").provenance.version == 1
    with desk.reading(is_apart=True) as reading:
        assert run_query(reading, "select 1").rows == [[1]]
