"""The reporting currency is a setting: a company that lands its rates in USD reports in USD, then in KWD (three decimals), then in JPY (none)."""

from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Rules
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from northstar.use.explain.text import as_text
from northstar.use.headline import headline_rows
from northstar.use.marts import Marts
from northstar.use.reports.make import make_report
from tests.support import empty, previewed_metrics, query_as, run, select, silent, utc, write_rows

MARCH, APRIL = utc("2025-03-05T00:00:00"), utc("2025-03-05T01:00:00")


def subscription(name, currency, amount):
    return {"subscription_item_id": name, "subscription_id": name, "account_id": name, "application": "web", "plan_id": "p", "plan_tier": "basic",
            "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": amount, "currency": currency, "status": "active",
            "valid_from": "2025-01-05T00:00:00Z", "updated_at": "2025-01-05T00:00:00Z"}  # fmt: skip


def charge(number, at, currency, amount):
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": amount, "currency": currency, "status": "succeeded",
            "created_at": at, "updated_at": at}  # fmt: skip


def rate(day, currency, worth):
    return {"rate_date": day, "currency": currency, "rate_to_reporting": worth}


# each account pays 100 USD when it begins; in February the euro and the dinar rise
ROWS = {
    "accounts": [{"account_id": name, "account_type": "customer", "application": "web", "created_at": "2025-01-04T08:00:00Z",
                  "updated_at": "2025-01-04T08:00:00Z"} for name in "abc"],
    "fx_rates": [rate("2025-01-01", "EUR", "1.25"), rate("2025-01-01", "JPY", "0.008"), rate("2025-01-01", "KWD", "3.20"),
                 rate("2025-02-10", "EUR", "1.28"), rate("2025-02-10", "KWD", "3.25")],
    "subscriptions": [subscription("a", "USD", 10000), subscription("b", "EUR", 8000), subscription("c", "JPY", 12500)],
    "charges": [charge(1, "2025-01-10T10:00:00Z", "USD", 1000), charge(2, "2025-02-15T10:00:00Z", "EUR", 800)],
}  # fmt: skip


def by_month(settings, metric):
    return [
        str(row["value"])
        for row in select(settings, "select value from metric_values where metric_id = %s and grain = 'month' and application = 'web' "
                                    "and segment = '' and is_complete order by period_start", metric)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Three versions in three currencies and a fourth with a late rate of the yen: the settings of each, and what it showed."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("currency"), ROWS)
    shown = {}
    for currency in ("USD", "KWD", "JPY"):
        settings = replace(warehouse, rules=Rules(reporting_currency=currency, rates_currency="USD"))
        previewed = previewed_metrics(settings) if currency == "KWD" else None
        run(settings, source, MARCH, "hourly")
        shown[currency] = {
            "previewed": previewed,
            "mrr": by_month(settings, "mrr"), "cash": by_month(settings, "cash_collected"), "arpu": by_month(settings, "arpu"),
            "fx": {row["account_id"]: str(row["amount"]) for row in select(settings, "select * from mrr_movements where movement_type = 'fx'")},
            "explained": as_text(explain(settings, "mrr", utc("2025-02-01T00:00:00"), "month", "web")),
            "headline": headline_rows(settings)[0]["value"],
        }  # fmt: skip
    write_rows(source, {"fx_rates": [rate("2025-02-20", "JPY", "0.0081")]}, "late")
    run(settings, source, APRIL, "hourly")
    shown["late"] = {"mrr": by_month(settings, "mrr"), "cash": by_month(settings, "cash_collected")}
    return settings, shown


def test_amounts_are_converted_and_have_the_digits_of_their_currency(story):
    _, shown = story
    # 3 x 100, then 100 + 80 x 1.28 + 100
    assert (shown["USD"]["mrr"], shown["USD"]["cash"]) == (["300.00", "302.40"], ["10.00", "10.24"])
    # divided by 3.20, then by 3.25
    assert (shown["KWD"]["mrr"], shown["KWD"]["cash"]) == (["93.750", "93.046"], ["3.125", "3.151"])
    assert shown["KWD"]["arpu"] == ["31.250", "31.015"]
    # divided by 0.008
    assert (shown["JPY"]["mrr"], shown["JPY"]["cash"]) == (["37500", "37800"], ["1250", "1280"])


def test_an_account_moves_with_the_rate_to_the_reporting_currency(story):
    _, shown = story
    assert shown["USD"]["fx"] == {"b": "2.40"}
    # 100 / 3.25 - 100 / 3.20, and 102.40 / 3.25 - 100 / 3.20
    assert shown["KWD"]["fx"] == {"a": "-0.481", "b": "0.258", "c": "-0.481"}
    assert shown["JPY"]["fx"] == {"b": "300"}


def test_people_read_the_currency_beside_the_number(story):
    settings, shown = story
    assert [shown[c]["headline"] for c in ("USD", "KWD", "JPY")] == ["302.40 USD", "93.046 KWD", "37,800 JPY"]
    assert "93.046 KWD (complete" in shown["KWD"]["explained"]
    assert {row["currency"] for row in select(settings, "select currency from metrics where unit = 'money'")} == {"JPY"}
    assert {row["currency"] for row in select(settings, "select currency from metrics where unit != 'money'")} == {None}
    # a setting that no run has followed yet labels nothing
    assert Marts(replace(settings, rules=Rules(reporting_currency="EUR"))).currency == "JPY"


def test_a_report_names_the_currency_of_the_old_value_and_of_the_new_one(story):
    settings, _ = story
    text = make_report(settings, "monthly", since_version=2).text
    assert "93.046 KWD became 37,800 JPY (setting" in text
    assert "USD" not in text


def test_a_changed_currency_restates_amounts_with_the_setting_as_the_reason(story):
    settings, shown = story
    restated = select(settings, "select distinct r.metric_id, m.unit, r.reasons from metric_restatements as r join metrics as m using (metric_id) where new_version = 2")  # fmt: skip
    assert {tuple(row["reasons"]) for row in restated} == {("setting",)}
    metrics = {row["metric_id"] for row in restated}
    assert metrics >= {"mrr", "arr", "new_mrr", "cash_collected", "arpu"}
    assert metrics.isdisjoint({"paying_accounts", "customer_churn_rate", "payment_failure_rate", "new_accounts"})
    assert metrics <= shown["KWD"]["previewed"] and "paying_accounts" not in shown["KWD"]["previewed"]


def test_a_late_rate_of_the_reporting_currency_restates_what_it_converts(story):
    settings, shown = story
    # 100 / 0.0081 + 102.4 / 0.0081 + 12500; the charge of the fifteenth is older than the rate
    assert shown["late"] == {"mrr": ["37500", "37488"], "cash": ["1250", "1280"]}
    assert all(compared.is_same for compared in verify(settings, None, silent))


def test_rates_in_another_currency_than_is_said_stop_the_publish(story, tmp_path):
    settings, _ = story
    with pytest.raises(NorthstarError, match=r"also failed: .*fx_rates\.rates_are_in_the_stated_currency"):
        run(replace(settings, rules=Rules(reporting_currency="EUR")), write_rows(tmp_path, ROWS), APRIL, "hourly")
    (check,) = query_as(settings, "transformer", "select sample from audit.checks where check_name = 'rates_are_in_the_stated_currency' and failing_rows > 0")  # fmt: skip
    assert "a rate of 1.25 for EUR, in which the rates are said to be worth: " in check["sample"][0]["message"]
    assert by_month(settings, "mrr")[0] == "37500"
