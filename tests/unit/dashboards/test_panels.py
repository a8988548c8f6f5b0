"""The panels: that every required one is on a page, and that what they draw is what the marts say."""

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from northstar import db
from northstar.dashboards import app
from northstar.dashboards.app import read_pages
from northstar.dashboards.data import Marts, nearest
from northstar.dashboards.figures import Painter, banner, period, title_of
from northstar.formats import shown, shown_change
from northstar.settings import ROOT

REQUIRED = list(csv.DictReader(Path(__file__).with_name("required_panels.csv").open()))
PANELS = [panel for page in read_pages() for panel in page["panels"]]
DRAWN = [panel for panel in PANELS if panel["kind"] not in ("cards", "targets")]
CATALOGUE = [m["metric_id"] for m in csv.DictReader((ROOT / "dbt_project" / "seeds" / "metric_catalogue.csv").open())]
MARTS = {"mrr_movements", "cohort_retention", "funnel_stages", "churn_reasons", "user_paths", "experiment_results"}


@pytest.fixture(scope="module")
def painter(built):
    return Painter(Marts(built))


def rows(settings, text: str, *values) -> list[dict]:
    with db.connect(settings, "bi_reader") as connection:
        return connection.execute(text, values).fetchall()


@pytest.mark.parametrize("required", REQUIRED, ids=lambda r: f"{r['line']} {r['panel'][:30]}")
def test_every_required_panel_is_on_a_page(required):
    found = {
        metric
        for panel in PANELS
        if required["line"] in panel["refs"]
        for metric in [*panel["metrics"], panel.get("share_of")]
    }
    assert set(required["metrics"].split(";")) <= found


def test_panels_name_metrics_that_there_are():
    assert {metric for panel in PANELS for metric in panel["metrics"]} <= set(CATALOGUE) | MARTS


@pytest.mark.parametrize("application", ["all", "web", "tutoring"])
def test_every_panel_can_be_drawn_and_says_in_words_what_it_shows(painter, application):
    for panel in DRAWN:
        for grain, months, segment in (("month", 12, ""), ("day", 3, "country"), ("hour", 0, "plan_tier")):
            figure = painter.draw(panel, application, grain, months, segment)
            assert figure.layout.meta, panel["title"]


def test_every_card_can_be_drawn_also_where_there_is_no_value(painter):
    for panel in PANELS:
        if panel["kind"] == "cards":
            for application in ("all", "coaching", "web"):
                for grain in ("day", "month", "quarter"):
                    assert len(painter.cards(panel, application, grain).children) == len(panel["metrics"])


def test_a_panel_that_cannot_be_drawn_leaves_the_others_alone(built, monkeypatch, caplog):
    monkeypatch.setattr(app, "painter", lambda: Painter(Marts(built)))
    figure = app._drawn({"kind": "line", "metrics": ["mrr"], "title": "MRR"}, "all", "no grain", 12, "")
    assert figure.layout.meta == app.BROKEN and "the panel MRR" in caplog.text


def test_lines_are_the_values_of_the_marts(painter, built):
    figure = painter.draw({"kind": "line", "metrics": ["mrr"]}, "all", "month", 0, "country")
    for trace in figure.data:
        if "so far" not in trace.name:
            expected = rows(built, "select value from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' "
                                   "and segment = 'country' and segment_value = %s and is_complete order by period_start", trace.name)  # fmt: skip
            assert [float(r["value"]) for r in expected] == list(trace.y)
    assert len({t.name for t in figure.data}) > 1


def test_the_bridge_goes_from_the_mrr_before_to_the_mrr_after(painter, built):
    bridge = painter.draw({"kind": "bridge", "metrics": ["mrr_movements"]}, "all", "month", 0, "").data[0]
    ends = rows(built, "select value from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = '' "
                       "and is_complete order by period_start desc limit 2")  # fmt: skip
    assert bridge.y[-1] == float(ends[0]["value"]) and bridge.y[0] == pytest.approx(float(ends[1]["value"]), abs=0.02)
    assert sum(bridge.y[:-1]) == pytest.approx(bridge.y[-1])


def test_error_budgets_are_reckoned_from_the_daily_sums(painter, built):
    figure = painter.draw({"kind": "budgets", "metrics": ["uptime"]}, "tutoring", "month", 12, "")
    bar, as_of = figure.data[0], rows(built, "select max(as_of) as t from publications")[0]["t"]
    sums = rows(built, "select sum(numerator) as up, sum(denominator) as asked from metric_values where metric_id = 'uptime' and grain = 'day' "
                       "and application = 'tutoring' and segment = '' and is_complete and period_start >= %s", as_of - timedelta(days=31))[0]  # fmt: skip
    objective = rows(
        built, "select max(target) as target from metric_status where metric_id = 'uptime' and application = 'tutoring'"
    )[0]["target"]
    allowed = (100 - objective) / 100 * sums["asked"]
    assert bar.x[0] == pytest.approx(max(-100, float(100 * (1 - (sums["asked"] - sums["up"]) / allowed))))


def test_what_is_not_there_is_said(painter):
    figure = painter.draw({"kind": "funnel", "funnel": "student_journey", "metrics": []}, "web", "month", 12, "")
    assert figure.layout.meta == "nobody of web in this funnel"


def test_a_new_version_is_seen_and_late_data_and_failed_checks_are_said_loudly(painter, built):
    published = painter.marts.published()
    told = str(banner(painter.marts, published.as_of + timedelta(hours=1)))
    # the small company's flaws are more than what usually goes to quarantine
    assert (
        f"Version {published.version:,}" in told
        and "Checks that failed: landing_batches.quarantine_is_quiet." in told
        and " old: " not in told
    )
    assert "data is 5 hours old" in str(banner(painter.marts, published.as_of + timedelta(hours=5)))
    with db.connect(built, "owner", autocommit=True) as connection:
        changed = "update marts.certificates set checks = jsonb_set(checks, '{landing_batches.quarantine_is_quiet,success}', %s)"
        try:
            connection.execute(changed, ["true"])
            painter.marts._looked_at = 0
            assert "alert" not in str(banner(painter.marts, published.as_of))
        finally:
            connection.execute(changed, ["false"])
            painter.marts._looked_at = 0


def test_before_the_first_version_the_pages_say_what_to_do(warehouse):
    from tests.support import empty

    empty(warehouse)
    assert "Nothing has been published yet" in str(banner(Marts(warehouse)))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(Decimal("22083.613"), "money", "22,083.61 EUR"), (12.34, "percent", "12.3 %"), (1234, "count", "1,234"), (244.4, "ms", "244 ms"),
     (3.25, "hours", "3.2 h"), (12, "minutes", "12.0 min"), (4.2, "score", "4.20"), (61, "seconds", "61 s"), (None, "money", "-"), (float("nan"), "ms", "-")],
)  # fmt: skip
def test_a_number_is_shown_as_its_unit_says(value, unit, text):
    assert shown(value, unit, "EUR") == text


def test_changes_periods_titles_and_grains():
    assert shown_change(110, 100, "count") == "+10.0 %" and shown_change(12.5, 13.0, "percent") == "-0.5 points"
    assert shown_change(1, None, "count") == shown_change(1, 0, "count") == ""
    moment = datetime(2026, 4, 6, 15, tzinfo=UTC)
    assert [period(moment, g) for g in ("hour", "day", "week", "month", "quarter")] == [
        "6 Apr 15:00", "6 Apr 2026", "week of 6 Apr 2026", "Apr 2026", "Q2 2026",
    ]  # fmt: skip
    assert title_of("ltv_cac_ratio") == "LTV CAC ratio" and title_of("retention_d30") == "Retention d30"
    assert (
        nearest("day", ["month", "quarter"]) == "month"
        and nearest("quarter", ["day", "month"]) == "month"
        and nearest("day", ["day"]) == "day"
    )
    assert pd.notna(moment)
