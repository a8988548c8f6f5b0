"""A metric by every value of a segment: what a chart of the largest has no room for."""

import re
from html import unescape

import pandas as pd
import pytest
from flask import Flask

from northstar.base.locales import parse_locale, written_in
from northstar.use.marts import Marts
from northstar.use.pages.links import all_values_path
from northstar.use.pages.painter import Painter
from northstar.use.pages.panels import bars, budgets, line
from northstar.use.pages.panels.drawing import NAME, cut_name
from northstar.use.pages.values import add_values
from tests.support import select

LONG = "the application of the department for continued and further education in the northern provinces " * 2
MRR = {"kind": "line", "metrics": ["mrr"], "title": "MRR"}


@pytest.fixture(scope="module")
def marts(built):
    return Marts(built)


@pytest.fixture(scope="module")
def browser(marts):
    server = Flask("values")
    add_values(server, lambda: marts)
    return server.test_client()


def test_all_values_are_listed_largest_first_each_with_what_stands_behind_it(browser, built):
    published = select(
        built, "select segment_value, period_start from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = 'country' "
        "and is_complete and value is not null and period_start = (select max(period_start) from metric_values where metric_id = 'mrr' and grain = 'month' "
        "and application = 'all' and segment = '' and is_complete) order by value desc, segment_value",
    )  # fmt: skip
    text = browser.get(all_values_path("mrr", "all", "month", "country")).text
    assert re.findall(r'class="northstar-name" title="([^"]+)"', text) == [r["segment_value"] for r in published]
    links = re.findall(r'href="(/why/mrr\?[^"]+)"', text)
    assert len(links) == len(published) > 2 and "segment=country" in unescape(links[0])
    for address in ("metric=nothing&segment=country", "metric=mrr&segment=shoe_size", "metric=mrr", "metric=mrr&segment=country&grain=aeon", "metric=mrr&segment=country&application=none"):  # fmt: skip
        assert browser.get(f"/why/values?{address}").status_code == 404, address


def test_a_chart_reads_the_largest_values_alone_and_says_of_how_many(marts, monkeypatch):
    whole = Painter(marts).draw(MRR, "all", "month", 12, "country")
    assert "largest" not in whole.layout.meta and whole.layout.legend.title.text is None
    ranked = list(marts.by_segment("mrr", "all", "month", "country")["segment_value"])
    monkeypatch.setattr(line, "LINES", 2)
    asked = []
    monkeypatch.setattr(marts, "_rows", lambda text, given, ask=marts._rows: asked.append(rows := ask(text, given)) or rows)  # fmt: skip
    figure = Painter(marts)._figure(MRR, "all", "month", 12, "country")
    assert [t.name for t in figure.data if t.showlegend is not False] == ranked[:2]
    # the others are not read at all
    assert {row["segment_value"] for rows in asked for row in rows if "segment_value" in row} == set(ranked[:2])
    among = select(marts.settings, "select count(distinct segment_value) as n from metric_series where metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = 'country'")[0]["n"]  # fmt: skip
    assert f"the 2 largest of {among}" in figure.layout.meta
    assert all_values_path("mrr", "all", "month", "country") in figure.layout.legend.title.text
    # several metrics share the room
    rates = {"kind": "line", "metrics": ["customer_churn_rate", "gross_revenue_retention"], "title": "Rates"}
    drawn = [t.name for t in Painter(marts)._figure(rates, "all", "month", 12, "country").data if t.showlegend is not False]  # fmt: skip
    assert len(drawn) == 2 and drawn[0].startswith("Customer churn rate") and drawn[1].startswith("Gross revenue ret")
    monkeypatch.setattr(bars, "BARS", 2)
    few = bars.draw(marts, {"kind": "bars", "metrics": ["mrr"], "segment": "country", "title": "MRR"}, "all", "month", 12, "")  # fmt: skip
    assert f"2 of {len(ranked)}: <a href=" in few.layout.annotations[0].text


def test_a_long_name_is_cut_in_its_middle_and_whole_where_it_is_pointed_at(marts, monkeypatch):
    assert cut_name("web") == "web" and cut_name("x" * NAME) == "x" * NAME
    assert len(cut_name(LONG)) == NAME and cut_name(LONG).endswith(LONG[-8:]) and cut_name(LONG).startswith(LONG[:10])
    # a name is cut between characters, not within what stands for one
    assert cut_name("&lt;b&gt;" * 20) == "&lt;b&gt;" * 7 + "&lt;b…" + "b&gt;" + "&lt;b&gt;" * 2
    values = marts.series(["mrr"], "all", "month", 12, "country", 8)
    names = {name: f"{LONG} <b>{name}</b>" for name in values["segment_value"]}
    monkeypatch.setattr(marts, "series", lambda *_: values.assign(segment_value=[names[v] for v in values["segment_value"]]))  # fmt: skip
    figure = line.draw(marts, MRR, "all", "month", 12, "country")
    for trace in figure.data:
        if trace.showlegend is not False:
            assert (
                len(unescape(trace.name)) == NAME and LONG in trace.hovertemplate and "<b>" not in trace.hovertemplate
            )
    assert LONG in figure.layout.meta


def test_budgets_of_many_applications_show_those_of_which_least_is_left(marts, monkeypatch):
    panel = {"kind": "budgets", "metrics": ["uptime", "error_rate", "critical_error_rate"], "title": "Error budgets"}
    every = budgets.read(marts, panel, "all", "month", 12, "")
    many = pd.concat([every.assign(application=f"<i>{n}</i> {LONG}", left_percent=n) for n in range(30)], ignore_index=True)  # fmt: skip
    monkeypatch.setattr(budgets, "read", lambda *_: many)
    monkeypatch.setattr(budgets, "BARS", 4)
    figure = budgets.draw(marts, panel, "all", "month", 12, "")
    assert len(figure.data[0].x) == 4 and max(figure.data[0].x) <= 4 / len(every)
    assert f"the 4 smallest of {len(many)}" in figure.layout.meta
    assert all(len(unescape(text)) < 80 for text in figure.layout.yaxis.ticktext) and not any("<i>" in t for t in figure.data[0].text)  # fmt: skip


def test_what_was_drawn_for_one_locale_is_not_shown_to_another(marts):
    panel = {"kind": "bars", "metrics": ["mrr"], "segment": "country", "title": "MRR"}
    house = Painter(marts).draw(panel, "all", "month", 12, "")
    with written_in(parse_locale("de")):
        german = Painter(marts).draw(panel, "all", "month", 12, "")
    assert house.layout.separators is None and german.layout.separators == ",."
    assert [t.replace(".", ";").replace(",", ".").replace(";", ",") for t in german.data[0].text] == list(house.data[0].text)  # fmt: skip
    assert Painter(marts).draw(panel, "all", "month", 12, "") is house
