"""The marts as readers knew them: which version somebody means, that all that is read is of that version, and what was restated since."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts, Restated
from northstar.use.past import ROLLBACK, PastMarts, find_version
from northstar.use.why.background import Place, find_background
from northstar.use.why.rows import FACTS, NEWEST_ONLY, find_behind
from northstar.warehouse import db
from northstar.warehouse.published.past import show_version
from tests.support import later_versions, select, utc

FEBRUARY, JANUARY = utc("2026-02-01"), utc("2026-01-01")
MRR = "series_id = (select series_id from marts.metric_series where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = '' limit 1)"
MRR_OF = {month: f"{MRR} and period_start = '{month:%Y-%m-%d}'" for month in (JANUARY, FEBRUARY)}
FEBRUARY_MRR = "select metric_id, grain, period_start, application, segment, segment_value, value, value + 100, 1, 2, 'late_rows', 1, array['late_rows', 'correction'] from marts.metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = '' and period_start = '2026-02-01'"
KEY = ("mrr", "month", FEBRUARY, "all", "", "")


@pytest.fixture(scope="module")
def versions(built):
    """Version 2 restates the MRR of February and a cohort, and has one application more; version 3 puts January's back to what no version said."""
    with later_versions(
        built,
        [
            ("metric_points", MRR_OF[FEBRUARY], "value = value + 100, numerator = numerator + 100"),
            ("cohort_retention", "cohort_kind = 'paying' and application = 'all' and months_since = 1", "retention_percent = 12.5"),
            ("dim_accounts", "account_id = (select min(account_id) from marts.dim_accounts)", "application = 'zeta'"),
        ],
        [("metric_points", MRR_OF[JANUARY], "value = value - 7, numerator = numerator - 7")],
        restatements=FEBRUARY_MRR, restores=1,
    ):  # fmt: skip
        yield built


@pytest.fixture
def newest(versions):
    return Marts(versions)


def february(marts: Marts) -> Decimal:
    frame = marts.series(["mrr"], "all", "month", 12)
    return frame[frame["period_start"] == FEBRUARY]["value"].iloc[0]


def test_every_statement_reads_the_version_that_is_shown(newest):
    then, now = PastMarts(newest, 1), february(newest)
    assert february(then) == now - 100 == february(PastMarts(newest, 1))
    # one after the other in one thread, with one connection
    assert [february(PastMarts(newest, v)) for v in (2, 1, 3)] == [now, now - 100, now]
    assert then.published().version == 1 and newest.published().version == 3
    assert "zeta" in newest.applications() and "zeta" not in then.applications()
    assert then.rows("select max(published_version) as v from certificates")[0]["v"] == 1
    assert len(then.frame("select * from metric_restatements")) == 0
    share = "select retention_percent as p from cohort_retention where cohort_kind = 'paying' and application = 'all' and months_since = 1"
    assert {float(p) for p in newest.frame(share)["p"]} == {12.5} != {float(p) for p in then.frame(share)["p"]}
    # what no version keeps is of now, and not shown
    assert then.open_alerts("all") == [] and then.broken_promises(datetime.now(UTC)) == []


def test_what_was_restated_since_comes_with_its_newest_value_and_the_reason(newest):
    then = PastMarts(newest, 1)
    values = then.series(["mrr", "arr"], "all", "month", 12).assign(application="all", segment="")
    restated = then.restated(values)
    assert restated[KEY] == Restated(february(newest), "USD", "late rows, correction")
    # no restatement is recorded for what a rollback changes
    assert restated["mrr", "month", JANUARY, "all", "", ""].reasons == ROLLBACK
    assert set(restated) == {KEY, ("mrr", "month", JANUARY, "all", "", "")}
    assert newest.restated(values) == {} == PastMarts(newest, 3).restated(values.assign(value=february(newest))[:0])
    text = "select cohort_month, months_since, retention_percent from cohort_retention where cohort_kind = %(kind)s and application = 'all' and months_since < 2"
    cohorts = then.frame(text, kind="paying")
    changed = then.changed(cohorts, ["cohort_month", "months_since"], ["retention_percent"], text, kind="paying")
    assert changed and {key[1] for key in changed} == {1}
    assert {float(row["retention_percent"]) for row in changed.values()} == {12.5}
    assert then.reasons_since("mrr", "all") == "correction, late rows"


def test_what_is_remembered_is_of_one_version_and_a_new_publication_starts_anew(newest):
    then = PastMarts(newest, 1)
    assert then.remember(("panel",), lambda: "then") == "then" and newest.remember(("panel",), lambda: "now") == "now"
    assert PastMarts(newest, 1).remember(("panel",), lambda: "again") == "then"


def test_a_version_is_named_by_its_number_or_by_a_time_at_which_it_was_the_newest(newest, versions):
    now = datetime.now(UTC) + timedelta(minutes=1)
    times = {r["published_version"]: r["published_at"] for r in select(versions, "select * from publications")}
    assert find_version(newest, " 2 ", now) == 2
    assert find_version(newest, times[2].isoformat(), now) == 2
    assert find_version(newest, (times[2] - timedelta(microseconds=1)).isoformat(), now) == 1
    assert find_version(newest, f"{times[3]:%Y-%m-%d %H:%M:%S.%f}", now) == 3


@pytest.mark.parametrize(("asked", "words"), [
    ("4", "version 4 was never published"), ("0", "version 0 was never published"), ("9" * 30, "is neither a version"), ("soon", "'soon' is neither a version, such as 12, nor a time"),
    ("2020-01-01", "nothing was published at 2020-01-01 00:00 UTC; the first version was published at"), ("2999-01-01", "2999-01-01 00:00 UTC lies in the future"),
    ("0001-01-01T00:00:00+23:00", "is neither a version"),
])  # fmt: skip
def test_what_names_no_version_is_told_in_one_line(newest, asked, words):
    with pytest.raises(NorthstarError) as told:
        find_version(newest, asked, datetime.now(UTC))
    assert words in str(told.value) and "\n" not in str(told.value)


def test_a_version_whose_history_was_removed_or_that_showed_smaller_groups_is_not_read(newest, versions):
    with db.connect(versions, "owner") as connection:
        connection.execute("insert into marts_at_version.pruned_versions values (2)")
    try:
        with pytest.raises(NorthstarError, match=r"version 1 is no longer kept .* the oldest kept version is 2"):
            find_version(newest, "1", datetime.now(UTC))
        assert find_version(newest, "2", datetime.now(UTC)) == 2
    finally:
        with db.connect(versions, "owner") as connection:
            connection.execute("delete from marts_at_version.pruned_versions where oldest_version = 2")
    raised = (
        "update marts.certificates set rules = jsonb_set(rules, '{suppress_below}', %s) where published_version = 3"
    )
    with db.connect(versions, "owner") as connection:
        connection.execute(raised, ["5"])
    try:
        with pytest.raises(NorthstarError, match="smaller than suppress_below allows now"):
            find_version(newest, "2", datetime.now(UTC))
    finally:
        with db.connect(versions, "owner") as connection:
            connection.execute(raised, ["0"])


def test_the_background_of_an_earlier_number_has_no_landed_rows(newest):
    then = PastMarts(newest, 1)
    background = find_background(then, Place("mrr", "month", FEBRUARY))
    assert background.value["value"] == february(newest) - 100 and background.certificate["published_version"] == 1
    assert background.since == Restated(february(newest), "USD", "late rows, correction")
    assert background.restatements == [] != find_background(newest, Place("mrr", "month", FEBRUARY)).restatements
    behind = find_behind(then, background)
    assert behind.note == NEWEST_ONLY and behind.model == "metrics_revenue" and behind.numerator is None


def test_the_facts_that_a_version_published_are_shown_where_a_metric_is_made_of_them(newest, versions):
    ticket = "ticket_id = (select min(ticket_id) from marts.fct_tickets where created_at >= '2026-02-01' and created_at < '2026-03-01')"
    place = Place("ticket_volume", "month", FEBRUARY)
    before = find_behind(PastMarts(newest, 3), find_background(PastMarts(newest, 3), place))
    assert before.note.startswith(FACTS) and before.numerator.adds_up and before.numerator.rows[0].sample
    shown = {row["source"]["ticket_id"] for row in before.numerator.rows[0].sample}
    # the fact moves to another month later: what the version published is what it was
    with db.connect(versions, "owner") as connection:
        columns = [
            r["name"]
            for r in connection.execute(
                "select attname as name from pg_attribute where attrelid = 'marts_history.fct_tickets'::regclass and attnum > 0 and attname !~ '^_'"
            )
        ]
        names = ", ".join(columns)
        connection.execute(
            f"insert into marts_history.fct_tickets ({names}, _from_version, _to_version) select {names}, 1, 4 from marts.fct_tickets where {ticket}"
        )
        connection.execute(
            f"update marts.fct_tickets set created_at = created_at - interval '40 days', _version = 4 where {ticket}"
        )
    try:
        then = PastMarts(newest, 1)
        behind = find_behind(then, find_background(then, place))
        assert {row["source"]["ticket_id"] for row in behind.numerator.rows[0].sample} == shown
    finally:
        with db.connect(versions, "owner") as connection:
            connection.execute("delete from marts.fct_tickets where _version = 4")
            connection.execute(
                f"insert into marts.fct_tickets ({names}, _version) select {names}, 1 from marts_history.fct_tickets where _to_version = 4"
            )
            connection.execute("delete from marts_history.fct_tickets where _to_version = 4")


def test_an_earlier_version_is_read_by_its_keys(versions):
    """A value once read all points of all series: conditions within the parts of a view keep a join out of them (D297)."""
    with db.connect(versions, "bi_reader", autocommit=True) as connection:
        show_version(connection, 1)
        for setting in ("seqscan", "hashjoin", "mergejoin"):
            connection.execute(f"set enable_{setting} = off")
        rows = connection.execute(
            "explain (costs off) select value from metric_values where metric_id = 'mrr' and grain = 'month'"
        ).fetchall()
    plan = [row["QUERY PLAN"] for row in rows]
    # of the points that are current, and of those that were replaced
    assert (
        len([line for line in plan if "Index Cond: " in line and "series_id = metric_series.series_id" in line]) == 2
    ), plan
