"""A published value that changes leaves a trace: what it was, what it is, in which versions, and why."""

from dataclasses import replace

import pytest

from northstar.errors import NorthstarError
from northstar.reading import query
from tests.support import empty, run, select, utc, write_rows

MARCH = utc("2025-03-01T00:00:00")


def charge(number, day, amount, updated=None):
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": amount, "currency": "USD", "status": "succeeded",
            "created_at": f"{day}T10:00:00Z", "updated_at": updated or f"{day}T10:00:00Z"}  # fmt: skip


def subscription(amount, updated):
    return {"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
            "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": amount, "currency": "USD", "status": "active",
            "valid_from": "2025-01-05T00:00:00Z", "updated_at": updated}  # fmt: skip


ROWS = {
    "accounts": [{"account_id": "a", "account_type": "customer", "application": "web", "country": "US", "created_at": "2025-01-05T00:00:00Z",
                  "updated_at": "2025-01-05T00:00:00Z"}],
    "charges": [charge(1, "2025-01-10", 1000), charge(2, "2025-02-10", 2000)],
    "subscriptions": [subscription(5000, "2025-01-05T00:00:00Z")],
}  # fmt: skip


def restated(settings, metric, grain="month"):
    return [
        (str(r["period_start"].date()), float(r["old_value"]), float(r["new_value"]), r["old_version"], r["new_version"], r["reason"])
        for r in select(
            settings,
            "select * from metric_restatements where metric_id = %s and grain = %s and application = 'web' and segment = '' order by 3, 10",
            metric,
            grain,
        )
    ]  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Four versions: the first; a late charge; a corrected subscription; another home country (a rule)."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("restated")
    run(warehouse, write_rows(source, ROWS), MARCH)
    run(
        warehouse,
        write_rows(source, {"charges": [charge(3, "2025-01-20", 500)]}, "late"),
        utc("2025-03-01T05:00:00"),
        "hourly",
    )
    later = "2025-03-01T06:00:00Z"
    run(
        warehouse,
        write_rows(source, {"subscriptions": [subscription(7000, later)]}, "fixed"),
        utc("2025-03-01T07:00:00"),
        "hourly",
    )
    rules = warehouse.rules | {"home_country": {"default": "DE"}, "first_days": {"web": "2024-01-01"}}
    run(replace(warehouse, rules=rules), source, utc("2025-03-01T08:00:00"), "hourly")
    return warehouse


def test_a_late_charge_restates_its_month(story):
    assert restated(story, "cash_collected") == [("2025-01-01", 10.0, 15.0, 1, 2, "late_rows")]


def test_a_corrected_subscription_restates_what_it_changed(story):
    assert restated(story, "mrr") == [
        ("2025-01-01", 50.0, 70.0, 1, 3, "correction"),
        ("2025-02-01", 50.0, 70.0, 1, 3, "correction"),
    ]


def test_a_changed_definition_restates_and_says_so(story):
    assert restated(story, "international_revenue_share") == [
        ("2025-01-01", 0.0, 100.0, 3, 4, "definition"),
        ("2025-02-01", 0.0, 100.0, 3, 4, "definition"),
    ]
    assert {r["reason"] for r in select(story, "select reason from metric_restatements where new_version = 4")} == {
        "definition"
    }


def test_a_first_publication_and_open_periods_restate_nothing(story):
    rows = select(story, "select distinct new_version from metric_restatements order by 1")
    assert [r["new_version"] for r in rows] == [2, 3, 4]
    assert (
        select(story, "select 1 from metric_restatements where period_start >= '2025-03-01' and grain = 'month'") == []
    )


def test_the_marts_can_be_read_as_they_were(story):
    text = (
        "select value from metric_values where metric_id = 'mrr' and grain = 'month' and period_start = '2025-01-01' "
        "and application = 'web' and segment = ''"
    )
    values = [float(query(story, text, version)[1][0][0]) for version in (1, 2, 3, 4)]
    assert values == [50.0, 50.0, 70.0, 70.0] and float(query(story, text)[1][0][0]) == 70.0
    assert query(story, "select count(*) from metric_restatements", 1)[1] == [(0,)]
    assert query(story, "select max(published_version) from publications", 2)[1] == [(2,)]


def test_the_past_is_read_only_and_has_its_limits(story):
    with pytest.raises(NorthstarError, match="version 99 was never published"):
        query(story, "select 1", 99)
    with pytest.raises(NorthstarError, match="read-only transaction"):
        query(story, "delete from staging.charges", 2)
