"""Cohorts, funnels and experiments have no value where no source measured it, and have it from the first such row on."""

import re
from typing import NamedTuple

import pytest
import yaml

from northstar.base.settings import ROOT, Settings
from northstar.use.marts import Marts
from northstar.use.pages.panels import cohorts, experiments, funnel
from northstar.use.query import query
from northstar.use.reports.make import make_report
from tests.support import empty, published, run, utc, write_rows


def account(name: str, application: str) -> dict:
    return {"account_id": name, "account_type": "customer", "application": application, "created_at": "2024-11-05T09:00:00Z", "updated_at": "2024-11-05T09:00:00Z"}  # fmt: skip


def event(number: int, name: str, at: str, account_id: str, application: str = "web", **properties) -> dict:
    return {"event_id": f"e{number}", "event_name": name, "occurred_at": f"{at}T10:00:00Z", "received_at": f"{at}T10:00:00Z", "account_id": account_id,
            "application": application, "properties": properties or None}  # fmt: skip


FIRST = {
    "accounts": [account("s", "shop"), account("w", "web"), account("x", "web")],
    # the second has an interval of more months than fit into 64 bits: one absurd row stops no build
    "subscriptions": [{
        "subscription_item_id": item, "subscription_id": "s", "account_id": "s", "application": "shop", "plan_id": "p", "billing_interval": interval,
        "interval_count": count, "quantity": 1, "unit_amount": 1000, "currency": "USD", "status": "active", "valid_from": "2024-11-05T10:00:00Z",
        "updated_at": "2024-11-05T10:00:00Z",
    } for item, interval, count in (("s", "month", 1), ("t", "year", 999_999_999_999_999_999))],
    "events": [
        event(1, "page.landing", "2024-11-06", "w"), event(9, "page.landing", "2024-12-06", "x"), event(2, "user.signup", "2024-11-07", "w"), event(3, "feature.used", "2024-11-08", "w"),
        event(4, "experiment.exposed", "2024-11-09", "w", experiment="price", variant="control", goal="order.placed"),
        event(5, "experiment.exposed", "2024-11-09", "x", experiment="price", variant="new", goal="order.placed"),
    ],
}  # fmt: skip
# what was never seen before: activity and a charge of the shop, the funnel's last stage, the experiment's goal
LATER = {
    "events": [
        event(6, "user.login", "2025-01-15", "s", "shop"), event(7, "payment.completed", "2024-12-20", "x"), event(8, "order.placed", "2024-12-20", "w"),
    ],
    "charges": [{"charge_id": "c", "account_id": "s", "application": "shop", "amount": 1000, "currency": "USD", "status": "succeeded",
                 "created_at": "2025-01-12T10:00:00Z", "updated_at": "2025-01-12T10:00:00Z"}],
}  # fmt: skip
COHORTS = (
    "select to_char(month, 'YYYY-MM'), cohort_size::int, retained_accounts::int, retention_percent::float, cumulative_margin_per_account::float "
    "from cohort_retention where cohort_kind = '{}' and application = '{}' order by month"
)
STAGES = (
    "select stage_number, visitors::int, from_previous_percent::float, from_first_percent::float from funnel_stages where funnel = 'signup_to_subscription' "
    "and grain = '{}' and period_start = '{}' order by stage_number"
)
RESULTS = "select variant, exposed::int, converted::int, conversion_percent::float, conversion_percent_low is null from experiment_results where application = 'web' order by 1"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tmp_path_factory.mktemp("unmeasured")


class Story(NamedTuple):
    """pages, report: what was shown of the first version."""

    settings: Settings
    pages: str
    report: str


@pytest.fixture(scope="module")
def story(warehouse, source):
    """Two versions: subscriptions of a shop and the first stages of a website; hourly, what was never seen before."""
    empty(warehouse)
    write_rows(source, FIRST, "first")
    run(warehouse, source, utc("2025-02-10T00:00:00"))
    pages, report = shown(warehouse), make_report(warehouse, "weekly", application="web").text
    write_rows(source, LATER, "later")
    run(warehouse, source, utc("2025-02-10T01:00:00"), "hourly")
    return Story(warehouse, pages, report)


def shown(settings) -> str:
    """What panels say of themselves."""
    marts = Marts(settings)
    figures = [
        funnel.draw(
            marts, {"kind": "funnel", "funnel": "signup_to_subscription", "metrics": []}, "web", "month", 0, ""
        ),
        experiments.draw(marts, {"kind": "experiments", "metrics": []}, "web", "month", 0, ""),
        cohorts.draw(marts, {"kind": "cohorts", "cohort_kind": "activity", "metrics": []}, "shop", "month", 0, ""),
        cohorts.draw(marts, {"kind": "cohorts", "cohort_kind": "paying", "metrics": []}, "shop", "month", 0, ""),
    ]
    return "\n".join(figure.layout.meta for figure in figures)


def test_who_is_not_seen_to_be_active_may_be_active_all_the_same(story):
    months = ("2024-11", "2024-12", "2025-01", "2025-02")
    unknown = [(month, 1, None, None, None) for month in months]
    assert query(story.settings, COHORTS.format("activity", "shop"), 1)[1] == unknown
    assert query(story.settings, COHORTS.format("activity", "shop"), 2)[1] == [
        *unknown[:2],
        ("2025-01", 1, 1, 100, None),
        ("2025-02", 1, 0, 0, None),
    ]
    assert [row[2] for row in query(story.settings, COHORTS.format("activity", "web"), 1)[1]] == [2, 1, 0, 0]


def test_an_interval_of_more_months_than_64_bits_hold_is_next_to_no_mrr(story):
    months = query(
        story.settings,
        "select mrr_at_end::float, mrr_at_end_exact > 10 from mrr_by_account where month = '2025-01-01'",
        1,
    )[1]
    assert months == [(10, True)]


def test_who_paid_how_much_is_unknown_before_the_first_charge(story):
    first = query(story.settings, COHORTS.format("paying", "shop"), 1)[1]
    assert [row[2:] for row in first] == [(1, 100, None)] * 4
    assert [row[4] for row in query(story.settings, COHORTS.format("paying", "shop"), 2)[1]] == [None, None, 8, 8]


def test_a_stage_whose_event_never_came_has_no_visitors_rather_than_none(story):
    stages = [(1, 1, None, 100), (2, 1, 100, 100), (3, 1, 100, 100)]
    assert query(story.settings, STAGES.format("month", "2024-11-01"), 1)[1] == [*stages, (4, None, None, None)]
    # the first payment lies in the month's window, and not in the day's
    assert query(story.settings, STAGES.format("month", "2024-11-01"), 2)[1] == [*stages, (4, 0, 0, 0)]
    assert query(story.settings, STAGES.format("day", "2024-11-06"), 2)[1] == [*stages, (4, None, None, None)]


def test_an_experiment_whose_goal_never_came_has_no_conversion(story):
    assert query(story.settings, RESULTS, 1)[1] == [("control", 1, None, None, True), ("new", 1, None, None, True)]
    assert query(story.settings, RESULTS, 2)[1] == [("control", 1, 1, 100, False), ("new", 1, 0, 0, False)]


def test_hourly_runs_end_in_what_a_nightly_run_makes(story, source):
    hourly = published(story.settings)
    run(story.settings, source, utc("2025-02-10T01:00:00"))
    nightly = published(story.settings)
    assert {mart for mart in nightly if nightly[mart] != hourly[mart]} == set()


def test_pages_say_what_is_not_measured(story):
    stages, price, active, paying = story.pages.split("\n")
    assert stages == (
        "Dec 2024: landing visit 1; registration 0 · 0.0 % of the previous stage, 100.0 % dropped off; feature use 0; "
        "payment not measured · no event of this stage, or of one before it, was landed by then"
    )
    assert price == "; ".join(
        f"price: {variant} not measured: no event of the goal was landed, 1 exposed" for variant in ("control", "new")
    )
    assert active == "not measured: land events with account_id"
    # subscriptions alone say who stays
    assert paying == "1 cohorts; after one month 100.0 % of a cohort are left on average"
    marts = Marts(story.settings)
    panel = {"kind": "experiments", "metrics": []}
    assert "price: control 100.0 % of 1" in experiments.draw(marts, panel, "web", "month", 0, "").layout.meta
    assert (
        "Signup to subscription: landing visit 0, registration 0, feature use 0, payment not measured" in story.report
    )


def test_what_facts_count_without_a_source_is_on_no_page_and_in_no_report():
    """Facts say false or 0 where nobody measured (D266), each in its description: whoever draws or sends numbers must not read them."""
    models = [
        m
        for path in (ROOT / "dbt_project" / "models" / "marts").rglob("*.yml")
        for m in yaml.safe_load(path.read_text()).get("models") or ()
    ]
    unsure = {
        column["name"]
        for model in models
        for column in model["columns"]
        if " as well where no" in column["description"]
    }
    assert {"was_active_on_day_7", "has_paid_within_30_days", "public_agent_replies", "messages"} <= unsure
    readers = [
        path for path in (ROOT / "plugins" / "northstar" / "use").rglob("*") if path.suffix in (".py", ".yml", ".sql")
    ]
    assert len(readers) > 40
    facts = "|".join(sorted({model["name"] for model in models if model["name"].startswith(("fct_", "dim_"))}))
    for path in readers:
        text = path.read_text()
        read = {name for name in unsure if re.search(rf"\b{name}\b", text)}
        assert not read or not re.search(rf"\b(from|join) (marts\.)?({facts})\b", text), (path, read)
