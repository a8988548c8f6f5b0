"""The panels: that every required one is on a page, and that what they draw is what the marts say."""

import csv
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from dash import html

from northstar.base.clock import Calendar
from northstar.base.errors import NorthstarError
from northstar.base.formats import format_change, format_value
from northstar.base.settings import ROOT
from northstar.use import marts as data
from northstar.use.alerts.table import OPEN_ALERTS
from northstar.use.last_preview import FILE, keep_preview, kept_preview
from northstar.use.lineage.published import keep_lineage, kept_lineage
from northstar.use.marts import Marts, nearest
from northstar.use.pages import app
from northstar.use.pages.app import shown_preview
from northstar.use.pages.contents import read_pages
from northstar.use.pages.describe import banner, description, made_of
from northstar.use.pages.markup import MARKUP
from northstar.use.pages.painter import Painter
from northstar.use.pages.panels import cards, line
from northstar.use.pages.panels.drawing import axis_start
from northstar.use.words import period, title_of
from northstar.warehouse import db
from tests.support import select, utc

REQUIRED = list(csv.DictReader(Path(__file__).with_name("required_panels.csv").open()))
PANELS = [panel for page in read_pages() for panel in page["panels"]]
DRAWN = [panel for panel in PANELS if panel["kind"] not in ("cards", "targets")]
CATALOGUE = [m["metric_id"] for m in csv.DictReader((ROOT / "dbt_project" / "seeds" / "metric_catalogue.csv").open())]
MARTS = {
    "mrr_movements",
    "mrr_bridge",
    "cohort_retention",
    "funnel_stages",
    "churn_reasons",
    "user_paths",
    "experiment_results",
}


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
                for grain in ("day", "month", "quarter", "year"):
                    assert len(painter.cards(panel, application, grain).children) == len(panel["metrics"])


def test_a_panel_that_cannot_be_drawn_leaves_the_others_alone(built, monkeypatch, caplog):
    monkeypatch.setattr(app, "painter", lambda: Painter(Marts(built)))
    figure = app._draw_or_explain(
        {"kind": "spiral", "metrics": ["mrr"], "title": "MRR"}, "all", "month", 12, app.NO_SEGMENT
    )
    assert figure.layout.meta == app.BROKEN and "the panel MRR" in caplog.text


def test_lines_are_the_values_of_the_marts(painter, built):
    figure = painter.draw({"kind": "line", "metrics": ["mrr"]}, "all", "month", 0, "country")
    for trace in figure.data:
        if "so far" not in trace.name and trace.name != "marks":
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


def test_the_bridges_of_plans_lead_from_their_opening_to_their_closing(painter, built):
    panel = {"kind": "bridges", "metrics": ["mrr_bridge"], "segment": "plan_tier"}
    figure = painter.draw(panel, "all", "month", 0, "")
    assert "transferred in" in {trace.name for trace in figure.data}
    ends = rows(built, "select segment_value, period_start, value from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' "
                       "and segment = 'plan_tier' and is_complete order by period_start desc")  # fmt: skip
    newest, before = sorted({end["period_start"] for end in ends}, reverse=True)[:2]
    difference = {
        tier: sum(
            (end["value"] if end["period_start"] == newest else -end["value"])
            for end in ends
            if end["segment_value"] == tier and end["period_start"] in (newest, before)
        )
        for tier in {end["segment_value"] for end in ends}
    }
    moved = dict.fromkeys(difference, 0.0)
    for trace in figure.data:
        for label, amount in zip(trace.x, trace.y, strict=True):
            moved[label.split("<br>")[0]] += amount
    assert moved == pytest.approx({tier: float(amount) for tier, amount in difference.items()}, abs=0.02)
    assert painter.draw(panel, "nowhere", "month", 0, "").layout.meta == "no MRR for nowhere"


def test_error_budgets_are_reckoned_from_the_daily_sums(painter, built):
    figure = painter.draw({"kind": "budgets", "metrics": ["uptime"]}, "tutoring", "month", 12, "")
    bar, as_of = figure.data[0], rows(built, "select max(as_of) as t from publications")[0]["t"]
    sums = rows(built, "select sum(numerator) as up, sum(denominator) as asked from metric_values where metric_id = 'uptime' and grain = 'day' "
                       "and application = 'tutoring' and segment = '' and is_complete and period_start >= %s", as_of - timedelta(days=30))[0]  # fmt: skip
    # the version's own time is midnight: 30 days, not 31
    assert as_of.hour == 0
    objective = rows(
        built, "select max(target) as target from metric_status where metric_id = 'uptime' and application = 'tutoring'"
    )[0]["target"]
    allowed = (100 - objective) / 100 * sums["asked"]
    assert bar.x[0] == pytest.approx(max(-100, float(100 * (1 - (sums["asked"] - sums["up"]) / allowed))))


@pytest.mark.parametrize(
    ("low", "high", "begins"),
    [(32_900, 35_900, 31_000), (0, 500, 0), (-20, 80, 0), (100, 100, 0), (60, 100, 0), (95.5, 100, 93)],
)
def test_a_bridge_begins_where_its_steps_can_be_seen(low, high, begins):
    assert axis_start(low, high) == begins


def test_a_funnel_tells_how_many_came_what_was_the_target_and_how_many_dropped_off(painter, built):
    figure = painter.draw({"kind": "funnel", "funnel": "student_journey", "metrics": []}, "tutoring", "month", 12, "")
    stages = rows(built, "select * from funnel_stages where funnel = 'student_journey' and grain = 'month' and application = 'tutoring' and is_complete "
                         "order by period_start desc, stage_number limit 6")  # fmt: skip
    second = stages[1]
    on = 100 * second["visitors"] / stages[0]["visitors"]
    assert (
        f"sign up {second['visitors']:,} · {on:.1f} % of the previous stage (target 30 %), {100 - on:.1f} % dropped off"
        in figure.layout.meta
    )


def test_the_table_of_targets_has_their_thresholds_and_zones_worst_first(built, monkeypatch):
    monkeypatch.setattr(app, "painter", lambda: Painter(Marts(built)))
    shown = html.Div(app.targets_table.__wrapped__(None, "operations", "tutoring"))
    # a long table has a field to search it
    table = next(text for part in shown._traverse() if (text := getattr(part, MARKUP, None)))
    told = [
        [unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall("<tr>(.*?)</tr>", table)[1:]
    ]
    expected = rows(built, "select count(*) as n from metric_status join metrics using (metric_id) where application = 'tutoring' and dashboards like '%%operations%%'")  # fmt: skip
    assert len(told) == expected[0]["n"] > 3
    zones = [row[2] for row in told]
    assert zones == sorted(zones, key=("red", "yellow", "unknown", "green").index)
    by_hour = next(row for row in told if row[0] == "API response time p95")
    assert by_hour[4:7] == ["< 500 ms", "500 ms", "1,000 ms"] and by_hour[-1] == "page on-call"


def test_a_card_says_by_which_grain_its_target_is_judged_where_it_shows_another():
    targets = pd.DataFrame([{"metric_id": "error_rate", "segment": "", "zone": "green", "grain": "hour", "application": "web"}])  # fmt: skip
    assert cards.find_zone(targets, "error_rate", "web", "month") == ("green", "on target by hour")
    assert cards.find_zone(targets, "error_rate", "web", "hour") == ("green", "on target")


def test_a_period_that_has_hardly_begun_is_not_drawn(painter):
    known, as_of = painter.marts.catalogue(), painter.marts.as_of()

    def drawn(metric, days):
        point = {"metric_id": metric, "grain": "month", "period_start": as_of - timedelta(days=days)}
        return line._has_begun(painter.marts, point, known)

    assert not drawn("ticket_volume", 2) and drawn("ticket_volume", 4) and drawn("mrr", 0)


def test_what_is_told_of_a_metric_says_how_fresh_it_is(painter):
    known, marts = painter.marts.catalogue(), painter.marts
    told = description(
        known["mrr"], marts.targets("all"), "USD", marts.calendar, marts.coverage("mrr"), pd.DataFrame(), {}
    ).children
    assert "complete up to Feb 2026." in told
    missing = description(
        known["ltv"], marts.targets("all"), "USD", marts.calendar, marts.coverage("ltv"), pd.DataFrame(), {}
    ).children
    assert "Missing values by reason: " in missing


def test_a_metric_says_which_landed_columns_it_stands_on_and_who_shows_it(painter, built):
    assert "`northstar lineage gmv` finds it" in str(made_of(None, "gmv", []))
    keep_lineage(built)
    (version,) = select(built, "select code_version from publications")
    told = str(made_of(kept_lineage(built, version["code_version"]), "gmv", ["Owner: GMV"]))
    assert "- bookings (cancelled_at, currency, price_amount, requested_at)" in told
    assert "`marts.fct_bookings`" in told and "Shown by Owner: GMV" in told
    assert kept_lineage(built, "another version") is None


def test_the_last_preview_is_shown_with_what_its_numbers_are_not(painter, built):
    published = painter.marts.published()
    assert "Nothing has been previewed" in str(shown_preview(None, published))
    content = {
        "version": published.version,
        "previewed_at": "2026-03-02 08:00",
        "headline": "1 metrics would change",
        "sections": [{"title": "Metrics that would change", "rows": [{"metric": "arr", "values": "12"}]}],
    }
    keep_preview(built, content)
    told = str(shown_preview(kept_preview(built), published))
    assert "1 metrics would change" in told and "Nothing here is published or audited" in told and ">12</td>" in told
    assert "has been published since" not in told
    assert "has been published since" in str(shown_preview({**content, "version": 0}, published))
    (built.home / FILE).unlink()


def test_what_is_not_there_is_said(painter):
    figure = painter.draw({"kind": "funnel", "funnel": "student_journey", "metrics": []}, "web", "month", 12, "")
    assert figure.layout.meta == "no visitors of web in this funnel"


def test_a_new_version_is_seen_and_late_data_and_failed_checks_are_said_loudly(painter, built):
    published = painter.marts.published()
    told = str(banner(painter.marts, published.as_of + timedelta(hours=1)))
    # the small company's flaws are more than what usually goes to quarantine
    assert f"Version {published.version:,}" in told and "Warnings of the audit: quarantine_is_quiet: " in told
    # the run of the tests publishes now what was known in March
    assert "since the run that published it was asked for that time" in told and "Late" not in told
    late = str(banner(painter.marts, published.published_at + timedelta(hours=5)))
    assert "Late: all marts no older than 2.5 hours: published last" in late
    asked = replace(published, published_at=published.as_of + timedelta(minutes=3))
    assert not asked.is_of_earlier_time
    with db.connect(built, "owner", autocommit=True) as connection:
        changed = "update marts.certificates set checks = jsonb_set(checks, '{landing_batches.quarantine_is_quiet,success}', %s)"
        try:
            connection.execute(changed, ["true"])
            painter.marts._looked_at = 0
            assert "Warnings of the audit" not in str(banner(painter.marts, published.as_of))
        finally:
            connection.execute(changed, ["false"])
            painter.marts._looked_at = 0


def test_the_page_of_alerts_shows_rule_threshold_and_how_often_it_fired(painter, built):
    assert "No alert is open." in str(app.shown_alerts(painter.marts, "all"))
    with db.connect(built, "publisher", autocommit=True) as connection:
        OPEN_ALERTS.ensure(connection)
        connection.execute(
            "insert into marts.open_alerts values ('a1', 'critical', 'open', 'payments', 'payment_failure_rate', 'web', '', 'payments_fail_often', 'more failed', "
            "12, 10, 'the documents'' threshold', 4, 3, '2026-02-28 10:00Z', 'alert finance', 'failure code x: 3 of 4', 'payments fail'), "
            "('a2', 'critical', 'open', 'run_failed', '', 'northstar', 'the disk is full', 'run_failed', 'the last run of the job failed', "
            "7, null, 'a run that publishes', null, 1, '2026-03-01 05:00Z', 'data on-call', '', '')"
        )  # fmt: skip
        try:
            # on every page, whatever application is shown
            assert "The last run failed, at 2026-03-01 05:00 UTC." in str(banner(painter.marts))
            page = unescape(str(app.shown_alerts(painter.marts, "web")))
            for words in (
                "payments_fail_often: more failed",
                "12.0 %",
                "10.0 % (the documents' threshold)",
                "4.0 %",
                "alert finance",
                "payments fail",
            ):
                assert words in page, words
            assert "No alert is open." in str(app.shown_alerts(painter.marts, "coaching"))
        finally:
            connection.execute("drop table marts.open_alerts")


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
    assert format_value(value, unit, "EUR") == text


def test_an_amount_has_the_digits_of_its_currency():
    amount = Decimal("83.3333")
    assert [format_value(amount, "money", c) for c in ("JPY", "KWD", "EUR", "")] == ["83 JPY", "83.333 KWD", "83.33 EUR", "83.33"]  # fmt: skip
    assert line._hover("JPY", "money") == "%{y:,.0f} JPY" and line._hover("KWD", "money") == "%{y:,.3f} KWD"


def test_changes_periods_titles_and_grains():
    assert format_change(110, 100, "count") == "+10.0 %" and format_change(12.5, 13.0, "percent") == "-0.5 points"
    assert format_change(1, None, "count") == format_change(1, 0, "count") == ""
    moment = datetime(2026, 4, 6, 15, tzinfo=UTC)
    assert [period(moment, g, Calendar()) for g in ("hour", "day", "week", "month", "quarter")] == [
        "6 Apr 15:00", "6 Apr 2026", "week of 6 Apr 2026", "Apr 2026", "Q2 2026",
    ]  # fmt: skip
    # a fiscal year is called by the year in which it ends
    february = Calendar(first_month=2)
    assert [period(utc(day), "quarter", february) for day in ("2025-11-01", "2026-02-01", "2026-11-01")] == [
        "Q4 FY2026",
        "Q1 FY2027",
        "Q4 FY2027",
    ]
    assert [
        period(utc(day), "year", calendar)
        for day, calendar in (("2026-01-01", Calendar()), ("2025-04-01", Calendar(first_month=4)))
    ] == ["2026", "FY2026"]
    assert title_of("ltv_cac_ratio") == "LTV CAC ratio" and title_of("retention_d30") == "Retention d30"
    assert (
        nearest("day", ["month", "quarter"]) == "month"
        and nearest("quarter", ["day", "month"]) == "month"
        and nearest("day", ["day"]) == "day"
    )
    assert pd.notna(moment)


@pytest.mark.parametrize(
    "forged",
    [
        {"application": "x" * 1_000_000},
        {"application": ["web"]},
        {"application": None},
        {"grain": "minute"},
        {"grain": {"a": 1}},
        {"months": 10**9},
        {"months": "12"},
        {"segment": "x"},
        {"segment": []},
    ],
    ids=lambda forged: f"{next(iter(forged))} {type(next(iter(forged.values()))).__name__}",
)
def test_what_no_control_offers_is_neither_drawn_nor_kept(painter, monkeypatch, forged):
    monkeypatch.setattr(app, "painter", lambda: painter)
    asked = {"application": "all", "grain": "month", "months": 12, "segment": app.NO_SEGMENT}
    assert app.is_offered(**asked) and app.is_offered(**asked, metric="mrr")
    kept = set(painter.marts._memory)
    drawn = app._draw_or_explain(DRAWN[0], **{**asked, **forged})
    assert app.UNKNOWN in str(drawn.layout) and set(painter.marts._memory) == kept
    assert not app.is_offered(**asked, metric="x" * 1_000) and not app.is_offered(**asked, metric=["mrr"])


def test_what_is_kept_is_bounded_in_bytes(built, monkeypatch):
    monkeypatch.setattr(data, "MEMORY_BYTES", 20 * 2**20)
    marts = Marts(built)
    for number in range(40):
        marts.remember((number,), lambda: pd.DataFrame({"text": ["x" * 1_000_000] * 2}))
        marts.remember(("drawn", number), lambda: {"text": "x" * 1_000_000})
    assert 15 * 2**20 < marts._memory_bytes <= 20 * 2**20
    assert sum(size for _, size in marts._memory.values()) == marts._memory_bytes
    # what was asked for last is there
    assert marts.remember((39,), lambda: None) is not None


def test_a_statement_that_ran_into_its_limit_is_not_asked_again(built, monkeypatch):
    marts, asked = Marts(built), []
    marts.published()
    connection = marts._local.connection
    connection.execute("set statement_timeout = '50ms'")
    monkeypatch.setattr(db, "connect", lambda *_, **__: asked.append(1))
    with pytest.raises(psycopg.errors.QueryCanceled):
        marts._rows("select pg_sleep(60)", {})
    assert marts._local.connection is connection and not asked


def test_a_panel_reads_a_bounded_number_of_rows(built, monkeypatch):
    monkeypatch.setattr(data, "ROWS", 10)
    assert len(Marts(built)._rows("select generate_series(1, 10)", {})) == 10
    with pytest.raises(NorthstarError, match="more than 10 rows"):
        Marts(built)._rows("select generate_series(1, 11)", {})
