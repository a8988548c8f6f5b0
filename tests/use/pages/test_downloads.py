"""Panels as files, from the address of the page that they are on."""

import csv
import io

import pytest
import python_calamine
from flask import Flask

from northstar.use.marts import Marts
from northstar.use.pages import downloads
from northstar.use.pages.downloads import add_downloads
from northstar.use.pages.links import page_path
from tests.support import select


@pytest.fixture(scope="module")
def browser(built):
    server, marts = Flask("take"), Marts(built)
    add_downloads(server, lambda: marts)
    return server.test_client()


def test_a_panel_is_taken_as_the_address_of_its_page_shows_it(browser, built):
    query = page_path("Executive", application="web", grain="week", period=0, segment="in total").partition("?")[2]
    answer = browser.get(f"/take/executive-3.csv?{query}&other=1")
    assert answer.status_code == 200 and answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="northstar_executive_mrr_v1.csv"'
    taken = list(csv.DictReader(io.StringIO(answer.text)))
    published = select(
        built, "select value::text from metric_values where metric_id = 'mrr' and grain = 'week' and application = 'web' and segment = '' order by period_start"
    )  # fmt: skip
    values = [row["value"] for row in taken if row.get("is_forecast") != "true"]
    assert values == [row["value"] or "" for row in published] and len(values) > 3
    answer = browser.get(f"/take/executive-3.xlsx?{query}")
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(answer.data))
    sheet, about = (book.get_sheet_by_index(n).to_python() for n in (0, 1))
    assert [row[6] for row in sheet[1 : len(values) + 1]] == [float(v) if v else "" for v in values]
    assert ["Application", "web"] in about and ["Version", "1"] in about


@pytest.mark.parametrize(
    "path",
    ["executive-99.csv", "nothing.csv", "executive-3.csv?executive-application=nobody", "executive-3.csv?executive-grain=b64_%FF", "executive-3.csv?executive-grain=b64_WzFd",
     "executive-3.xlsx?executive-period=b64_NQ", "executive-3.csv?executive-period=b64_" + "W" * 50_000],
)  # fmt: skip
def test_what_no_page_offers_is_not_given(browser, path):
    answer = browser.get(f"/take/{path}")
    assert answer.status_code == 404 and answer.mimetype == "text/plain"


def test_nobody_takes_more_than_so_many_a_minute(built, monkeypatch):
    monkeypatch.setattr(downloads, "FILES_A_MINUTE", 2)
    server, marts = Flask("take"), Marts(built)
    add_downloads(server, lambda: marts)
    assert [server.test_client().get("/take/none.csv").status_code for _ in range(3)] == [404, 404, 429]
