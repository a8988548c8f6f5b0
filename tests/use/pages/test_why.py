"""What stands behind every number on the pages: that each has an address, that it says what the marts say, and that its rows add up."""

from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from html import unescape
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from northstar.base.clock import GREENWICH
from northstar.base.formats import format_value
from northstar.use.explain.explanation import explain
from northstar.use.explain.recorded import record_queries
from northstar.use.marts import Marts
from northstar.use.pages.contents import read_pages
from northstar.use.pages.painter import Painter
from northstar.use.pages.why import add_why
from northstar.use.why.background import Place, find_background, parse_moment, period_query
from northstar.use.why.rows import BEING_BUILT, NOT_RECORDED, find_behind
from northstar.warehouse import db
from tests.support import select, utc

PANELS = [panel for page in read_pages() for panel in page["panels"]]
FEBRUARY = utc("2026-02-01")


@pytest.fixture(scope="module")
def marts(built):
    return Marts(built)


@pytest.fixture(scope="module")
def browser(marts):
    server = Flask("why")
    add_why(server, lambda: marts)
    return server.test_client()


def addresses(trace) -> list[tuple[str, object]]:
    """(the address that the page opens when a point is clicked, its value) of a trace's points, as northstar.js makes them."""
    if trace.type == "sankey":
        return [(own[-1], value) for own, value in zip(trace.link.customdata, trace.link.value, strict=True)]
    if trace.type == "heatmap":
        cells = [
            pair
            for own, values in zip(trace.customdata, trace.z, strict=True)
            for pair in zip(own, values, strict=True)
        ]
        return [(trace.meta + own, value) for own, value in cells if value == value]
    values = trace.x if trace.orientation == "h" else trace.y
    if trace.customdata is not None:
        owns = [own if isinstance(own, str) else own[-1] for own in trace.customdata]
        return [(own, value) for own, value in zip(owns, values, strict=True) if own]
    if trace.meta is None:
        return []
    return [
        (f"{trace.meta}&period={moment:%Y-%m-%dT%H:%M:%S}%2B00:00", value)
        for moment, value in zip(trace.x, values, strict=True)
    ]


@pytest.mark.parametrize(
    "panel", [p for p in PANELS if p["kind"] not in ("cards", "targets")], ids=lambda p: p["title"]
)
def test_every_point_of_a_chart_leads_to_what_stands_behind_it(marts, browser, panel):
    figure = Painter(marts).draw(panel, "all", "month", 12, "")
    for trace in figure.data:
        points = addresses(trace)
        # the forecast is no published value
        if trace.type == "scatter" and str(trace.name).startswith("forecast"):
            assert points == []
            continue
        assert points or not len(trace.x) or trace.x[0] is None
        # the first and the last: all have been made in the same way
        for address, value in {points[0], points[-1]} if points else ():
            answer = browser.get(address)
            assert answer.status_code == 200, (address, answer.text[-200:])
            if panel["kind"] == "line" and "share_of" not in panel and trace.name != "marks":
                unit = marts.catalogue()[address.split("/")[2].split("?")[0]]["unit"]
                assert format_value(Decimal(str(value)), unit, marts.currency) in unescape(answer.text)


def test_every_card_leads_there(marts, browser):
    panel = next(p for p in PANELS if p["kind"] == "cards")
    cards = str(Painter(marts).cards(panel, "web", "month"))
    assert "href='/why/mrr?grain=month&application=web&period=2026-02-01'" in cards
    assert browser.get("/why/mrr?grain=month&application=web&period=2026-02-01").status_code == 200


def test_the_page_says_what_the_marts_say(marts, browser):
    background = find_background(marts, Place("mrr", "month", FEBRUARY))
    published = select(
        marts.settings, "select * from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = '' "
        "and period_start <= %s order by period_start desc limit 2", FEBRUARY,
    )  # fmt: skip
    assert background.value["value"] == published[0]["value"] and background.earlier["value"] == published[1]["value"]
    # what the segment's values changed is what the whole changed
    change = published[0]["numerator"] - published[1]["numerator"]
    assert sum(part.amount for part in background.change) == pytest.approx(float(change), abs=0.01)
    text = unescape(browser.get(background.place.path).text)
    for words in (
        "Complete",
        "What changed since Jan 2026",
        "Monthly recurring revenue",
        "finance",
        "Version 1,",
        f"of {background.certificate['checks']} checks",
    ):
        assert words in text, words
    for part in background.change:
        assert browser.get(part.place.path).status_code == 200
    # a value that was never complete, one that is null, one of a segment
    assert "Still open: its period ends on 2026-04-01" in browser.get("/why/mrr?grain=quarter&period=2026-01-01").text
    missing = select(
        marts.settings, "select * from metric_values where null_reason = 'empty_base' and grain = 'month' and segment = 'country' order by metric_id limit 1"
    )[0]  # fmt: skip
    place = Place(
        *(missing[n] for n in ("metric_id", "grain", "period_start", "application", "segment", "segment_value"))
    )
    assert "No value: there is nothing in this period" in browser.get(place.path).text


@pytest.mark.parametrize(("address", "words"), [
    ("/why/nothing?grain=month&period=2026-02-01", "there is no metric 'nothing'"),
    ("/why/mrr?grain=hour&period=2026-02-01", "mrr has no hour values; its grains are day, week, month, quarter"),
    ("/why/mrr?grain=month&period=2026-02-02", "mrr has no value for the month that begins at 2026-02-02 00:00 UTC in all"),
    ("/why/mrr?grain=month&period=2026-02-01&application=' or 1=1 --", "in ' or 1=1 --"),
    ("/why/mrr?grain=month&period=soon", "'soon' is no period's start, such as 2026-03-01"),
    ("/why/mrr?grain=month&period=2026-02-01&segment=colour&value=red", "mrr has no segment 'colour'; its segments are plan_tier, country, account_type"),
    ("/why/mrr?grain=month&period=2026-02-01&segment=country&value=<script>alert(1)</script>", "country <script>alert(1)</script>"),
    ("/why/mrr", "'' is no period's start"),
    ("/why/mart/publications?version=1", "there is no page for rows of 'publications'"),
    ("/why/mart/churn_reasons?month; drop table x=1", "rows of churn_reasons are chosen by application, month, cancel_reason"),
    ("/why/mart/churn_reasons?cancel_reason=' or ''='", "churn_reasons has no row with cancel_reason ' or ''='"),
])  # fmt: skip
@pytest.mark.parametrize("tail", ["", "rows"])
def test_an_address_that_names_no_number_says_what_is_wrong(browser, address, words, tail):
    path, _, query = address.partition("?")
    if tail and "/mart/" in path:
        return
    answer = browser.get(f"{path}{'/rows' if tail else ''}?{query}")
    assert answer.status_code == 404 and words in unescape(answer.text)
    assert "<script>" not in answer.text


def seen(side):
    """A side as a reader may see it: without what is of the company's own making."""
    if side is None:
        return None
    for row in [row for rows in side.rows for row in rows.sample]:
        row["source"] = {n: v for n, v in row["source"].items() if n not in ("_extra", "properties", "details")}
    return side


def test_the_rows_that_readers_see_are_those_of_explain(marts, browser, built):
    with db.connect(built, "transformer") as connection:
        connection.execute("delete from audit.explained")
    background = find_background(marts, Place("mrr", "month", FEBRUARY))
    assert find_behind(marts, background).note == NOT_RECORDED
    assert record_queries(built) > 400 and record_queries(built) == 0
    newest = select(
        built, "select distinct on (metric_id) metric_id, grain, period_start, application, segment, segment_value from metric_values "
        "where is_complete and value is not null and grain in ('month', 'week') and application = 'all' and segment = '' order by metric_id, period_start desc",
    )  # fmt: skip
    assert len(newest) > 100
    # every seventh, and a figure that somebody wrote down, whose rows have no id: that each metric's rows add up is test_explain's matter, here it is that
    # readers see the same
    for row in [*newest[::7], *(row for row in newest if row["metric_id"] == "issues_opened")]:
        place = Place(row["metric_id"], row["grain"], row["period_start"])
        behind = find_behind(marts, find_background(marts, place))
        told = explain(built, place.metric, place.period_start, place.grain)
        assert behind.note == "", (place, behind.note)
        assert (seen(behind.numerator), seen(behind.denominator)) == (seen(told.numerator), seen(told.denominator)), (
            place
        )
        assert behind.model == told.model and behind.sql == told.model_sql
    told = explain(built, "customer_churn_rate", FEBRUARY, "month", segment="country", segment_value="US")
    behind = find_behind(
        marts, find_background(marts, Place("customer_churn_rate", "month", FEBRUARY, "all", "country", "US"))
    )
    assert seen(behind.denominator) == seen(told.denominator)
    # who changed it adds up to the change, where all are shown
    behind = find_behind(marts, background)
    assert behind.accounts and behind.accounts == sorted(behind.accounts, key=lambda a: (-abs(a[1]), a[0]))
    text = unescape(browser.get(background.place.path.replace("?", "/rows?")).text)
    for words in ("as published", behind.accounts[0][0], "subscriptions_000", "The SQL of core.metrics_revenue"):
        assert words in text, words


def test_rows_that_do_not_add_up_to_what_was_published_are_not_shown(marts, built):
    record_queries(built)
    background = find_background(marts, Place("ticket_volume", "month", FEBRUARY))
    assert find_behind(marts, background).note == ""
    # as if a run were building, or an earlier version had been put back
    changed = replace(background, value={**background.value, "numerator": background.value["numerator"] + 1})
    assert find_behind(marts, changed).note == BEING_BUILT


def test_a_group_that_is_withheld_has_no_rows_either(marts, built):
    record_queries(built)
    background = find_background(marts, Place("customer_churn_rate", "month", FEBRUARY, "all", "country", "US"))
    with db.connect(built, "owner") as connection:
        connection.execute(
            "insert into marts.metric_series select -series_id, metric_id, grain, application, segment, segment_value, begins_at, 'small_group', "
            "%s, null, -1 from marts.metric_series where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = 'country' and segment_value = 'US' limit 1",
            [FEBRUARY],
        )  # fmt: skip
    try:
        assert "withheld" in find_behind(marts, background).note
        earlier = find_background(
            marts, Place("customer_churn_rate", "month", utc("2026-01-01"), "all", "country", "US")
        )
        assert find_behind(marts, earlier).note == ""
    finally:
        with db.connect(built, "owner") as connection:
            connection.execute("delete from marts.metric_series where _version = -1")


def test_a_period_is_read_as_charts_and_addresses_write_it():
    texts = ("2026-02-01", "2026-02-01T00:00:00+00:00", "2026-02-01 01:00+01:00")
    assert {parse_moment(text, GREENWICH) for text in texts} == {FEBRUARY}


def test_an_address_names_a_period_by_the_companys_clock():
    new_york = ZoneInfo("America/New_York")
    for text, moment in (
        ("2025-11-02", utc("2025-11-02T04:00:00")),
        ("2025-11-02T01:00", utc("2025-11-02T05:00:00")),
        # the second of two hours of one name
        ("2025-11-02T01:00-0500", utc("2025-11-02T06:00:00")),
    ):
        assert parse_moment(text, new_york).astimezone(UTC) == moment
        assert unquote(period_query(moment.astimezone(new_york))) == f"period={text}"
