"""Every panel as a table: that it has what the chart shows, exactly as it is published, and says what it is."""

from dataclasses import replace
from decimal import Decimal

import pytest

from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.use.pages import tables
from northstar.use.pages.choices import Choice
from northstar.use.pages.contents import pages_of
from northstar.use.pages.links import page_path, slug
from northstar.use.pages.painter import Painter
from northstar.use.pages.tables import OTHERS, read_table
from tests.support import select


@pytest.fixture(scope="module")
def marts(built):
    return Marts(built)


def test_every_panel_is_a_table_that_has_what_its_chart_shows(marts):
    painter = Painter(marts)
    for page in pages_of(marts.settings):
        for number, panel in enumerate(page["panels"]):
            table = read_table(marts, f"{slug(page['title'])}-{number}", Choice())
            about = dict(table.about)
            assert (about["Panel"], about["Page"], about["Version"]) == (panel["title"], page["title"], "1")
            assert table.columns and all(set(row) >= {table.columns[0]} for row in table.rows)
            if panel["kind"] in ("cards", "targets"):
                assert table.rows, panel["title"]
                continue
            figure = painter.draw(panel, "all", "month", 12, "")
            # neither the forecast nor the marks are published values
            drawn = [t for t in figure.data if t.type != "scatter" or not str(t.name).startswith(("forecast", "marks"))]
            assert bool(table.rows) >= bool(drawn), (page["title"], panel["title"])
            if panel["kind"] == "line":
                shown = sorted(float(y) for trace in drawn for y in trace.y)
                published = [float(r["value"]) for r in table.rows if r["value"] is not None and not r["is_forecast"]]
                # the chart leaves out lines that there is no room for, and a period that has hardly begun
                assert not [y for y in shown if y not in published], panel["title"]
                assert all(metric in about for metric in panel["metrics"])
            if panel["kind"] in ("bars", "bridge"):
                (column,) = {"value", "amount"} & set(table.columns)
                values = figure.data[0].x if panel["kind"] == "bars" else figure.data[0].y
                assert list(values) == [float(row[column]) for row in table.rows[: len(values)]]


def test_a_table_has_the_published_numbers_and_names_what_was_chosen(marts):
    choice = Choice("web", "week", 3, "country", "mrr")
    table = read_table(marts, "metrics-history", choice)
    published = select(
        marts.settings, "select period_start, segment_value, value from metric_values where metric_id = 'mrr' and grain = 'week' and application = 'web' "
        "and segment = 'country' and period_start >= %s order by segment_value, period_start", marts.since(3),
    )  # fmt: skip
    assert len(published) > 5 and all(isinstance(row["value"], Decimal) for row in published)
    assert [(r["period_start"], r["segment_value"], r["value"]) for r in table.rows] == [
        tuple(r.values()) for r in published
    ]
    about = dict(table.about)
    assert (about["Application"], about["Grain"], about["Period"], about["Segment"]) == (
        "web",
        "week",
        "3 months",
        "country",
    )
    # it leads back to what was known when the file was made
    chosen = {"metric": "mrr", "application": "web", "period": 3, "grain": "week", "segment": "country"}
    assert about["Address"] == page_path("Metrics", **chosen) + "&as_of=1"
    assert table.title == "MRR, history" and "recurring" in about["mrr"].lower()
    assert table.file_name == "northstar_metrics_MRR--history_v1".replace("MRR", "mrr")


def test_the_tables_of_the_other_pages_are_there_too(marts):
    for name in OTHERS:
        table = read_table(marts, name, Choice())
        assert table.about[1] == ("Page", name.split("-")[0].capitalize())
    catalogue = read_table(marts, "metrics-catalogue", Choice())
    assert {row["metric_id"] for row in catalogue.rows} == set(marts.catalogue())


def test_a_long_table_is_cut_and_says_so(marts, monkeypatch):
    whole = read_table(marts, "metrics-history", Choice())
    monkeypatch.setattr(tables, "ROWS", 2)
    cut = read_table(marts, "metrics-history", Choice())
    assert cut.rows == whole.rows[:2] and cut.count == len(whole.rows) > 2
    assert dict(cut.about)["Rows"].startswith(f"the first 2 of {cut.count}")
    assert cut.file_name.endswith(f"_first_2_of_{cut.count}_rows")
    assert replace(whole, title='Prix: été "x"\n').file_name.isascii()


@pytest.mark.parametrize(
    "name", ["executive-99", "executive-x", "executive", "nothing-0", "", "executive--1", "executive-²"]
)
def test_what_is_no_panel_is_no_table(marts, name):
    with pytest.raises(NorthstarError, match="no panel"):
        read_table(marts, name, Choice())
