"""What counts as recurring revenue is a setting: past-due subscriptions always, never or for some days, the gap before a renewal, the gross margin."""

from dataclasses import replace

import pytest

from northstar.base.settings import Rules
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from tests.support import empty, previewed_metrics, run, select, silent, utc, write_rows

FEBRUARY_20, APRIL = utc("2025-02-20T00:00:00"), utc("2025-04-01T00:00:00")


def row(item, amount, status, valid_from, valid_to=None, application="web"):
    return {"subscription_item_id": item, "subscription_id": item, "account_id": item[0], "application": application, "plan_id": "p", "plan_tier": "basic",
            "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": amount, "currency": "USD", "status": status,
            "valid_from": f"{valid_from}T00:00:00Z", "valid_to": valid_to and f"{valid_to}T00:00:00Z", "updated_at": f"{valid_from}T00:00:00Z"}  # fmt: skip


# a pays after 5 days; b is past due for 28, raises its price on the sixth day, and is given up; c is past due and will not come back; d renews after 6 days;
# e pays in another application and leaves in March, as m2 does
ROWS = {
    "accounts": [{"account_id": name, "account_type": "customer", "application": "web", "created_at": "2025-01-01T00:00:00Z",
                  "updated_at": "2025-01-01T00:00:00Z"} for name in "abcdef"],
    "subscriptions": [
        row("a1", 1000, "active", "2025-01-10", "2025-02-01"), row("a1", 1000, "past_due", "2025-02-01", "2025-02-06"), row("a1", 1000, "active", "2025-02-06"),
        row("b1", 2000, "active", "2025-01-10", "2025-02-01"), row("b1", 2000, "past_due", "2025-02-01", "2025-02-07"),
        row("b1", 3000, "past_due", "2025-02-07", "2025-03-01"), row("b1", 3000, "unpaid", "2025-03-01"),
        row("c1", 4000, "active", "2025-01-10", "2025-02-15"), row("c1", 4000, "past_due", "2025-02-15"),
        row("d1", 5000, "active", "2025-01-10", "2025-02-03"), row("d2", 6000, "active", "2025-02-09"),
        row("e1", 8000, "active", "2025-01-10", application="shop"), row("f1", 2000, "active", "2025-01-10", "2025-03-10", application="shop"),
    ],
}  # fmt: skip


def movements(settings):
    return [
        (str(r["movement_date"])[5:], r["account_id"], r["movement_type"], float(r["amount"]))
        for r in select(settings, "select * from mrr_movements where application = 'web' and movement_type != 'new' order by 1, 3")
    ]  # fmt: skip


def by_month(settings, metric, application="web"):
    return [
        None if r["value"] is None else float(r["value"])
        for r in select(settings, "select value from metric_values where metric_id = %s and grain = 'month' and application = %s and segment = '' "
                                  "and is_complete order by period_start", metric, application)
    ]  # fmt: skip


LAST = "seven days, a week's gap, margins"


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """What the marts showed under each setting; the last run with 14 days follows one of an hour before, and nothing was landed in between."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("statuses"), ROWS)
    shown = {}
    for name, as_of, rules in (
        ("always", APRIL, Rules()),
        ("never", APRIL, Rules(count_past_due="never")),
        (
            LAST,
            APRIL,
            Rules(count_past_due=7, renewal_gap_days=7, gross_margin={"shop": 0.5}),
        ),
    ):
        settings = replace(warehouse, rules=rules)
        previewed = previewed_metrics(settings) if name == LAST else None
        run(settings, source, as_of, "hourly")
        shown[name] = {
            "previewed": previewed,
            "movements": movements(settings), "mrr": by_month(settings, "mrr"), "accounts": by_month(settings, "paying_accounts"),
            "ltv": by_month(settings, "ltv", "shop"), "company": by_month(settings, "ltv", "all"),
        }  # fmt: skip
    return settings, shown


def test_past_due_counts_always_by_default(story):
    _, shown = story
    assert shown["always"]["movements"] == [
        ("02-03", "d", "churn", -50), ("02-07", "b", "expansion", 10), ("02-09", "d", "reactivation", 60), ("03-01", "b", "churn", -30),
    ]  # fmt: skip
    assert shown["always"]["mrr"] == [120, 140, 110]


def test_past_due_never_counts(story):
    _, shown = story
    assert shown["never"]["movements"] == [
        ("02-01", "a", "churn", -10), ("02-01", "b", "churn", -20), ("02-03", "d", "churn", -50), ("02-06", "a", "reactivation", 10),
        ("02-09", "d", "reactivation", 60), ("02-15", "c", "churn", -40),
    ]  # fmt: skip
    assert (shown["never"]["mrr"], shown["never"]["accounts"]) == ([120, 70, 70], [4, 2, 2])


def test_past_due_counts_for_seven_days_since_it_became_so(story):
    _, shown = story
    changed = shown[LAST]
    # b's new price does not begin its days anew; c's end in the same month
    assert [m for m in changed["movements"] if m[1] in "abc"] == [
        ("02-07", "b", "expansion", 10), ("02-08", "b", "churn", -30), ("02-22", "c", "churn", -40),
    ]  # fmt: skip
    assert changed["mrr"] == [120, 70, 70]


def test_a_gap_below_the_renewal_gap_is_no_churn(story):
    _, shown = story
    # d had nothing for six days: what it had carries over
    assert [m for m in shown[LAST]["movements"] if m[1] == "d"] == [("02-09", "d", "expansion", 10)]  # fmt: skip


def test_the_gross_margin_is_that_of_the_application(story):
    settings, shown = story
    # in March one of two accounts leaves: 80 a month for the one that is left, times the margin, over one half
    assert shown["always"]["ltv"] == [None, None, 128]
    assert shown[LAST]["ltv"] == [None, None, 80]
    # (70 x 0.8 + 80 x 0.5) / 3 accounts, over 1 / 4
    assert shown[LAST]["company"][2] == 128
    explanation = explain(settings, "ltv", utc("2025-03-01"), "month", "shop")
    assert explanation.adds_up and explanation.published["value"] == 80


def test_each_setting_restates_what_it_touches_and_says_so(story):
    settings, shown = story
    restated = select(settings, "select distinct new_version, metric_id, grain, period_start::date::text as day, application, reasons from metric_restatements")  # fmt: skip
    assert {tuple(r["reasons"]) for r in restated} == {("setting",)}
    statuses = [r for r in restated if r["new_version"] == 2]
    assert {"mrr", "churned_mrr", "customer_churn_rate", "paying_accounts"} <= {r["metric_id"] for r in statuses}
    # the other application had nothing past due, and January was before all of it
    assert {r["application"] for r in statuses} == {"web", "all"}
    assert {r["day"] for r in statuses if r["grain"] == "month"} == {"2025-02-01", "2025-03-01"}
    assert {r["metric_id"] for r in restated if r["application"] == "shop"} == {"ltv"}
    # what the last one restated is what a preview had shown
    previewed = shown[LAST]["previewed"]
    assert {r["metric_id"] for r in restated if r["new_version"] == 3} <= previewed
    assert {"mrr", "ltv"} <= previewed and previewed.isdisjoint({"registered_accounts", "cash_collected"})


def test_what_stops_counting_by_time_alone_is_found_by_an_hourly_run(warehouse, tmp_path):
    empty(warehouse)
    settings = replace(warehouse, rules=Rules(count_past_due=14))
    run(settings, write_rows(tmp_path, ROWS), FEBRUARY_20)
    assert [m for m in movements(settings) if m[1] == "c"] == []
    run(settings, tmp_path, utc("2025-03-01T01:00:00"), "hourly")
    run(settings, tmp_path, utc("2025-03-01T02:00:00"), "hourly")
    assert [m for m in movements(settings) if m[1] in "bc"] == [
        ("02-07", "b", "expansion", 10), ("02-15", "b", "churn", -30), ("03-01", "c", "churn", -40),
    ]  # fmt: skip
    assert all(compared.is_same for compared in verify(settings, None, silent))
