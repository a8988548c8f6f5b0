"""What no source measures has no value: a company that lands purchases only, and sources that begin in its midlife, earlier than known, or not after all."""

import json

import pytest

from northstar.base.errors import NorthstarError
from northstar.publish.merge import rollback
from northstar.runs.verify import verify
from northstar.use.coverage import unmeasured_in_words
from northstar.use.explain.explanation import explain
from northstar.use.marts import Marts
from northstar.use.pages.panels import bars, cards, cohorts, line
from northstar.use.query import query
from tests.support import empty, northstar, published, run, select, silent, utc, write_rows


def charge(number: int, at: str, status: str = "succeeded", updated: str | None = None) -> dict:
    return {"charge_id": f"c{number}", "account_id": "a", "amount": 1000, "currency": "USD", "status": status, "application": "suite",
            "created_at": f"2025-01-{at}:00:00Z", "updated_at": updated or f"2025-01-{at}:00:00Z"}  # fmt: skip


def event(number: int, name: str, at: str, application: str) -> dict:
    return {"event_id": f"e{number}", "event_name": name, "occurred_at": f"2025-01-{at}:00:00Z", "received_at": f"2025-01-{at}:00:00Z",
            "account_id": "a", "application": application}  # fmt: skip


def pull_request(number: int, at: str, **columns) -> dict:
    return {"pull_request_id": f"p{number}", "opened_at": f"2025-01-{at}:00:00Z", "application": "suite",
            "updated_at": f"2025-01-{at}:00:00Z", **columns}  # fmt: skip


ACCOUNTS = [
    {"account_id": "a", "account_type": "customer", "application": "suite", "created_at": "2025-01-06T09:00:00Z", "updated_at": "2025-01-06T09:00:00Z"},
    {"account_id": "b", "account_type": "customer", "application": "suite", "created_at": "2025-01-07T09:00:00Z", "updated_at": "2025-01-07T09:00:00Z"},
]  # fmt: skip
PURCHASES = [event(1, "purchase.made", "10T10", "suite"), event(2, "purchase.made", "16T10", "suite")]
LOGINS = [event(3, "user.login", "08T10", "web"), event(4, "user.login_failed", "09T10", "web")]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tmp_path_factory.mktemp("purchases")


@pytest.fixture(scope="module")
def story(warehouse, source):
    """Four versions: purchases only; hourly, the first failed charge and review; an older failed charge; that one did not fail."""
    empty(warehouse)
    versions = [
        ("2025-01-20T00:00:00", "nightly", {
            "accounts": ACCOUNTS, "events": PURCHASES + LOGINS, "charges": [charge(1, "10T10"), charge(2, "15T10"), charge(3, "16T10")],
            "pull_requests": [pull_request(1, "07T10")],
        }),
        ("2025-01-20T01:00:00", "hourly", {
            "charges": [charge(4, "15T12", "failed")], "pull_requests": [pull_request(2, "14T10", first_review_at="2025-01-14T12:00:00Z")],
        }),
        ("2025-01-20T02:00:00", "hourly", {"charges": [charge(5, "12T08", "failed")]}),
        ("2025-01-20T03:00:00", "hourly", {"charges": [charge(5, "12T08", "succeeded", "2025-01-20T02:30:00Z")]}),
    ]  # fmt: skip
    for number, (as_of, mode, rows) in enumerate(versions, 1):
        write_rows(source, rows, f"delivery{number}")
        assert run(warehouse, source, utc(as_of), mode) == number
    return warehouse


def days(settings, metric: str, version: int | None = None, application: str = "suite", grain: str = "day") -> dict:
    rows = query(
        settings,
        "select to_char(period_start, 'DD'), value::float, null_reason from metric_values "
        f"where metric_id = '{metric}' and grain = '{grain}' and application = '{application}' and segment = '' order by period_start",
        version,
    )[1]
    return {day: value if reason is None else reason for day, value, reason in rows}


def test_a_company_that_lands_purchases_alone_has_no_other_values(story):
    charged = {"10": 10.0, "15": 10.0, "16": 10.0}
    collected = days(story, "cash_collected", 1)
    assert collected == dict.fromkeys(collected, 0.0) | charged
    for metric, grain in {
        "failed_logins": "day", "auth_success_rate": "day", "activation_rate": "week", "payment_success_rate": "day", "refund_rate": "week",
        "code_review_within_24h_rate": "week", "signup_to_paid_conversion_rate": "week", "payment_retries": "day",
    }.items():  # fmt: skip
        assert set(days(story, metric, 1, grain=grain).values()) == {"source_missing"}, metric
    numbers = "select count(*) from metric_values where null_reason = 'source_missing' and (numerator, denominator, value) is not null"
    assert query(story, numbers, 1)[1] == [(0,)]


def test_an_application_is_measured_by_its_own_rows_and_the_company_by_any(story):
    web, company = days(story, "failed_logins", 1, "web"), days(story, "failed_logins", 1, "all")
    assert web["08"] == company["08"] == "source_missing"
    assert [web[day] for day in ("09", "10", "19")] == [company[day] for day in ("09", "10", "19")] == [1, 0, 0]


def test_a_source_that_begins_in_midlife_is_measured_from_its_first_row_on(story):
    success = days(story, "payment_success_rate", 2)
    assert {success[f"{day:02}"] for day in range(10, 15)} == {"source_missing"}
    assert (success["15"], success["16"], success["17"]) == (50, 100, "empty_base")
    reviews = days(story, "code_review_within_24h_rate", 2, grain="week")
    assert reviews == {"06": "source_missing", "13": 100, "20": "empty_base"}


def test_points_are_published_from_then_on_only(story):
    points = (
        "select to_char(p.period_start, 'DD') from metric_points as p join metric_series as s using (series_id) "
        "where s.metric_id = 'payment_success_rate' and s.grain = 'day' and s.application = 'suite' and s.segment = '' "
        "and s.state = 'measured' and p.period_start >= s.begins_at order by 1"
    )
    assert query(story, points, 1)[1] == []
    assert query(story, points, 2)[1] == [("15",), ("16",)]
    assert query(story, points, 3)[1] == [("12",), ("15",), ("16",)]
    assert query(story, points, 4)[1] == [("15",), ("16",)]


def test_an_older_row_moves_the_beginning_and_its_correction_moves_it_back(story):
    assert [days(story, "payment_success_rate", version)["12"] for version in (2, 3, 4)] == [
        "source_missing",
        0,
        "source_missing",
    ]
    assert [days(story, "payment_success_rate", version)["13"] for version in (2, 3, 4)] == [
        "source_missing", "empty_base", "source_missing",
    ]  # fmt: skip


def test_to_become_measured_or_not_is_one_restatement_with_the_count_of_its_periods(story):
    found = select(
        story,
        "select to_char(period_start, 'DD') as day, old_value::int as old, new_value::int as new, new_version, periods from metric_restatements "
        "where metric_id = 'payment_success_rate' and grain = 'day' and application = 'suite' and segment = '' order by new_version",
    )
    assert [tuple(r.values()) for r in found] == [("15", None, 50, 2, 5), ("12", None, 0, 3, 3), ("12", 0, None, 4, 3)]


def test_a_target_of_what_is_not_measured_is_unknown(story):
    status = "select zone, value::int from metric_status where metric_id = 'failed_logins' and application = 'suite'"
    assert query(story, status, 1)[1] == [("unknown", None)]
    met = "select coalesce(sum(numerator), 0)::int, coalesce(sum(denominator), 0)::int from metric_values where metric_id = 'targets_met_rate' and application = 'suite'"
    assert query(story, met, 1)[1] == [(0, 0)]


def test_hourly_runs_end_in_what_a_nightly_run_makes(story, source):
    hourly = published(story)
    run(story, source, utc("2025-01-20T03:00:00"))
    nightly = published(story)
    assert {mart for mart in nightly if nightly[mart] != hourly[mart]} == set()


def test_the_coverage_says_since_when_or_what_is_lacking(story):
    rows = query(
        story,
        "select application, stands_on, to_char(measured_from, 'DD'), lacking from metric_coverage where metric_id = 'auth_success_rate' order by 1",
        1,
    )[1]
    login, failed = "events.event_name=user.login", "events.event_name=user.login_failed"
    assert rows == [
        ("all", f"{login}, {failed}", "09", None),
        ("suite", f"{login}, {failed}", None, f"{login}, {failed}"),
        ("web", f"{login}, {failed}", "09", None),
    ]
    certificate = select(story, "select coverage from certificates where published_version = 1")[0]["coverage"]
    assert certificate["refund_rate"]["not_measured"] == {
        "all": "refunds",
        "suite": "refunds",
        "web": "charges, refunds",
    }
    assert "not_measured" not in certificate["tracked_events"]


def test_a_command_lists_what_is_lacking(story):
    done = northstar(story, "coverage", "refund_rate", "--format", "json")
    assert json.loads(done.stdout) == [
        {"metric": "refund_rate", "application": "all", "measured since": None, "lacking": "refunds"},
        {"metric": "refund_rate", "application": "suite", "measured since": None, "lacking": "refunds"},
        {"metric": "refund_rate", "application": "web", "measured since": None, "lacking": "charges, refunds"},
    ]
    done = northstar(story, "coverage", "failed_logins", "--application", "web")
    assert "2025-01-09" in done.stdout
    done = northstar(story, "coverage", "unheard_of")
    assert done.returncode == 1 and "there is no metric unheard_of" in done.stderr


def test_metricflow_which_knows_no_coverage_is_told_apart(story):
    assert unmeasured_in_words(
        story, ["query", "--metrics", "refund_rate,tracked_events", "--group-by", "application"]
    ) == [
        f"refund_rate of {application}: not measured: land {needs}; a number that MetricFlow has for it says nothing"
        for application, needs in (("all", "refunds"), ("suite", "refunds"), ("web", "charges, refunds"))
    ]
    assert unmeasured_in_words(story, ["list", "metrics"]) == []


def test_an_explanation_says_why_there_is_no_value(story):
    with pytest.raises(
        NorthstarError,
        match=r"refund_rate is not measured in suite: it stands on charges, refunds\. Nothing was landed of: refunds",
    ):
        explain(story, "refund_rate", application="suite")
    with pytest.raises(NorthstarError, match="payment_success_rate is not measured in suite before 2025-01-15"):
        explain(story, "payment_success_rate", utc("2025-01-10"), "day", "suite")


def test_pages_say_what_to_land(story):
    marts = Marts(story)
    panel = {"kind": "cards", "title": "Payments", "metrics": ["refund_rate", "activation_rate", "cash_collected"]}
    texts = str(cards.draw(marts, panel, "suite", "week"))
    assert "not measured: land refunds" in texts
    assert "not measured: land events with event_name feature.used or tool.invoked or booking.requested'" in texts
    assert texts.count("not measured") == 2
    figure = line.draw(marts, {"kind": "line", "title": "Refunds", "metrics": ["refund_rate"]}, "suite", "week", 0, "")
    assert "not measured: land refunds" in str(figure)
    panel = {"kind": "bars", "title": "Failures", "metrics": ["payment_failure_rate"], "segment": "country"}
    assert "not measured: land charges with status" in str(bars.draw(marts, panel, "web", "week", 0, ""))
    panel = {"kind": "cohorts", "title": "Payers", "metrics": ["cohort_retention"], "cohort_kind": "paying"}
    assert "not measured: land subscriptions" in str(cohorts.draw(marts, panel, "web", "month", 0, ""))


def test_a_version_with_such_stretches_can_be_verified(story):
    assert [c for c in verify(story, 3, silent) if not c.is_same] == []


def test_a_rollback_brings_the_stretches_back(story):
    first = days(story, "payment_success_rate", 1)
    rollback(story, 1)
    assert days(story, "payment_success_rate") == first
