"""Each restated value has its own reasons: a run in which a definition and a setting changed, rows came late, one was corrected and one erased."""

import shutil
from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Rules
from northstar.privacy.ring import home_key
from northstar.runs import job
from northstar.runs.erase.request import request_erasure
from northstar.runs.erase.restage import restage
from northstar.runs.hold import end_hold, hold
from northstar.warehouse import db
from tests.support import empty, run, select, silent, utc, write_rows

MARCH = utc("2025-03-01T00:00:00")
JANUARY, FEBRUARY = "2025-01-01", "2025-02-01"


def account(name, country):
    at = "2025-01-02T00:00:00Z"
    return {
        "account_id": name,
        "account_type": "customer",
        "application": "web",
        "country": country,
        "created_at": at,
        "updated_at": at,
    }


def charge(number, day, account_id="a"):
    at = f"{day}T10:00:00Z"
    return {"charge_id": f"c{number}", "account_id": account_id, "application": "web", "amount": 1000, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at}  # fmt: skip


def response(number, day, score, updated="T10:00:00Z"):
    at = f"{day}T10:00:00Z"
    return {"response_id": f"r{number}", "survey": "nps", "application": "web", "score": score, "sent_at": at, "responded_at": at,
            "updated_at": f"{day}{updated}"}  # fmt: skip


ROWS = {
    "accounts": [account("a", "US"), account("person", "US")],
    "charges": [charge(1, "2025-01-10", "person"), charge(2, "2025-02-10")],
    "subscriptions": [{"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
                       "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 5000, "currency": "USD",
                       "status": "active", "valid_from": "2025-01-05T00:00:00Z", "updated_at": "2025-01-05T00:00:00Z"}],
    "survey_responses": [response(1, "2025-01-12", 10), response(2, "2025-02-12", 9), response(3, "2025-02-13", 9)],
}  # fmt: skip
LATER = {
    "charges": [charge(3, "2025-01-20")],
    "survey_responses": [response(4, "2025-01-15", 9), response(3, "2025-02-13", 7, "T12:00:00Z")],
}


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Two versions. Between them rows land in a run that publishes nothing; then an erasure publishes with other models and another rule."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("reasons")
    run(warehouse, write_rows(source, ROWS), MARCH)
    hold(warehouse, "the test lands rows that a later run publishes")
    with pytest.raises(NorthstarError, match="publishing is held"):
        run(warehouse, write_rows(source, LATER, "later"), MARCH, "hourly")
    end_hold(warehouse)
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(
        warehouse.root / "dbt_project", root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")
    )
    (root / "expectations").symlink_to(warehouse.root / "expectations")
    model = root / "dbt_project" / "models" / "core" / "satisfaction" / "metrics_satisfaction.sql"
    assert model.read_text().count("'nps': ['100 * net_promoters', 'answers']") == 1
    text = model.read_text().replace("'nps': ['100 * net_promoters'", "'nps': ['50 * net_promoters'")
    model.write_text(text + "-- A comment defines nothing.\n")
    changed = replace(warehouse, root=root, rules=Rules(home_country={"default": "DE"}))
    key = home_key(changed)
    with db.connect(changed, "loader") as connection:
        erasure_id = request_erasure(connection, key, "person", None, "the test")
    job.run_change(
        changed, f"erasure {erasure_id}", lambda run_id: restage(changed, key, erasure_id, run_id), progress=silent
    )
    return warehouse


def reasons(settings, metric):
    """{month: reasons} of the restated values of a metric."""
    rows = select(
        settings,
        "select period_start, reason, reasons from metric_restatements where metric_id = %s and grain = 'month' and application = 'web' "
        "and segment = ''",
        metric,
    )
    assert all(row["reason"] == row["reasons"][0] for row in rows)
    return {str(row["period_start"].date()): row["reasons"] for row in rows}


def test_a_metric_whose_expression_changed_says_so_and_which_rows_came_late(story):
    assert reasons(story, "nps") == {
        JANUARY: ["late_rows", "definition"],
        FEBRUARY: ["correction", "definition"],
    }


def test_a_metric_of_the_same_model_that_is_defined_as_before_has_the_reasons_of_its_rows(story):
    assert reasons(story, "nps_mean_score") == {JANUARY: ["late_rows"], FEBRUARY: ["correction"]}


def test_a_value_that_only_a_setting_changed_says_so(story):
    # its model reads the accounts, which are also made of charges: a late one and that of the erased person lie in January
    assert reasons(story, "international_revenue_share") == {
        JANUARY: ["late_rows", "erasure", "setting"],
        FEBRUARY: ["setting"],
    }


def test_a_value_with_late_and_erased_rows_has_both_reasons(story):
    assert reasons(story, "cash_collected") == {JANUARY: ["late_rows", "erasure"]}


def test_no_value_has_a_reason_that_is_not_its_own(story):
    told = select(story, "select distinct metric_id, unnest(reasons) as reason from metric_restatements")
    assert {row["metric_id"] for row in told if row["reason"] == "definition"} == {"nps"}
    assert "cash_collected" not in {row["metric_id"] for row in told if row["reason"] == "setting"}
