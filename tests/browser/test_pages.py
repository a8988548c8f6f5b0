"""The pages in a real browser: that they show what the marts say, on a desk and on a phone, and to those who do not see them.

NORTHSTAR_SCREENSHOTS=1 writes the pictures of the README and the docs.
"""

import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from northstar import db
from northstar.dashboards import serve
from northstar.dashboards.app import read_pages
from northstar.formats import shown
from northstar.settings import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (apt-get install chromium)")
PAGES = {
    page["title"]: "/" if page["title"] == "Executive" else f"/{page['title'].lower().replace(' ', '-')}"
    for page in read_pages()
}
READY = """() => {
  const graphs = [...document.querySelectorAll('.dash-graph')];
  return document.querySelector('[data-version]') && graphs.length && graphs.every(g => ((g.querySelector('.js-plotly-plot') || {}).layout || {}).meta)
    && !document.querySelector('.dash-spinner-container')
}"""
WIDTHS = (1400, 390)


@pytest.fixture(scope="module")
def pages(built):
    """The address of the pages of the built warehouse."""
    command = serve.command(built)
    with open(built.logs / "pages.log", "wb") as log:
        server = subprocess.Popen(command, env=serve.environment(built), stdout=log, stderr=log, cwd=built.home)
    try:
        deadline = time.monotonic() + 90
        while not serve.answers(built):
            assert server.poll() is None and time.monotonic() < deadline, (built.logs / "pages.log").read_text()
            time.sleep(0.2)
        yield serve.url(built)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium, address: str, width: int):
    """A page of a new context, drawn to the end; fails for any error in its console."""
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            errors.append(f"asks {request.url}")
            if not request.url.startswith((address[:17], "data:", "blob:"))
            else None
        ),
    )
    go(page, address)
    yield page
    assert not errors
    context.close()


def darken(page) -> None:
    """Switch to the dark theme, as a reader does."""
    is_dark = "() => document.documentElement.getAttribute('data-bs-theme') === 'dark'"
    if not page.evaluate(is_dark):
        page.locator("#theme-toggle").click()
    page.wait_for_function(is_dark)
    page.wait_for_timeout(500)


def go(page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(READY, timeout=30_000)


def choose(page, control: str, option: str) -> None:
    """Choose an option of a dropdown, and wait until it is drawn."""
    page.locator(f"#{control} .dash-dropdown").first.click()
    search = page.locator("div.dash-dropdown-content input[type=search]")
    if search.count():
        search.fill(option)
    with page.expect_response(lambda r: "_dash-update-component" in r.url):
        page.locator("div.dash-dropdown-content [role=option]").get_by_text(option, exact=True).first.click()
    page.wait_for_timeout(300)
    page.wait_for_function(READY)


def newest(settings, application: str = "all", grain: str = "month") -> dict[str, str]:
    """{metric: its newest complete value as it is shown} of all metrics that have the grain."""
    currency = settings.rules["reporting_currency"]
    with db.connect(settings, "bi_reader") as connection:
        rows = connection.execute(
            "select distinct on (v.metric_id) v.metric_id, v.value, m.unit from metric_values as v join metrics as m using (metric_id) "
            "where v.grain = %s and v.application = %s and v.segment = '' and v.is_complete order by v.metric_id, v.period_start desc",
            [grain, application],
        ).fetchall()
    return {row["metric_id"]: shown(row["value"], row["unit"], currency) for row in rows}


def cards(page) -> dict[str, str]:
    found = page.evaluate(
        "() => [...document.querySelectorAll('.northstar-card')].map(c => [c.dataset.metric, c.querySelector('.northstar-card-value').textContent])"
    )
    return dict(found)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_numbers_on_the_pages_are_those_of_the_marts(chromium, pages, built, width):
    expected, compared = newest(built), 0
    with opened(chromium, pages, width) as page:
        for path in PAGES.values():
            go(page, pages + path)
            for metric, value in cards(page).items():
                if metric in expected:
                    assert value == expected[metric], (path, metric)
                    compared += 1
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (
                f"{path} is wider than the screen"
            )
    assert compared > 30


def test_charts_hold_the_values_of_the_marts_and_controls_change_them(chromium, pages, built):
    def line(page) -> list[float]:
        return page.evaluate("() => Array.from(document.querySelector('#executive-3 .js-plotly-plot')._fullData[0].y)")

    def expected(application: str, grain: str) -> list[float]:
        with db.connect(built, "bi_reader") as connection:
            rows = connection.execute(
                "select value from metric_values where metric_id = 'mrr' and grain = %s and application = %s and segment = '' and is_complete "
                "and value is not null order by period_start", [grain, application],
            ).fetchall()  # fmt: skip
        return [float(row["value"]) for row in rows]

    with opened(chromium, pages, 1400) as page:
        assert line(page) == expected("all", "month")
        choose(page, "executive-application", "web")
        assert line(page) == expected("web", "month")
        assert cards(page)["mrr"] == newest(built, "web")["mrr"]
        choose(page, "executive-grain", "week")
        assert line(page) == expected("web", "week")
        choose(page, "executive-segment", "country")
        names = page.evaluate("() => document.querySelector('#executive-3 .js-plotly-plot').data.map(t => t.name)")
        assert len(names) > 2 and "US" in names


@pytest.mark.parametrize("width", WIDTHS)
def test_no_serious_obstacle_for_those_who_use_a_keyboard_or_a_screen_reader(chromium, pages, width):
    from axe_playwright_python.sync_playwright import Axe

    with opened(chromium, pages, width) as page:
        for path in ("/", "/journeys", "/owner", "/metrics"):
            go(page, pages + path)
            if width == 390:
                darken(page)
            page.wait_for_timeout(300)
            found = [
                (v["impact"], v["id"], v["nodes"][0]["html"][:200]) for v in Axe().run(page).response["violations"]
            ]
            assert not [v for v in found if v[0] in ("serious", "critical")], path
        labels = page.evaluate(
            "() => [...document.querySelectorAll('.js-plotly-plot')].map(p => p.getAttribute('aria-label'))"
        )
        assert all(labels)


def test_the_metrics_page_tells_of_every_metric(chromium, pages, built):
    with opened(chromium, pages + "/metrics", 1400) as page:
        listed = page.evaluate(
            "() => [...document.querySelectorAll('#metrics-catalogue tbody th')].map(h => h.textContent)"
        )
        with db.connect(built, "bi_reader") as connection:
            assert sorted(listed) == sorted(r["metric_id"] for r in connection.execute("select metric_id from metrics"))
        choose(page, "metrics-metric", "Customer churn rate")
        assert "accounts" in page.locator("#metrics-about").inner_text()


def test_each_page_names_its_version_and_that_its_data_is_old(chromium, pages):
    with opened(chromium, pages + "/support", 1400) as page:
        assert re.search(
            r"Version 1, published \d{4}-\d\d-\d\d \d\d:\d\d UTC, data up to 2026-03-01 00:00 UTC",
            page.locator("#support-version").inner_text(),
        )
        assert "no run has published since" in page.locator("[role=alert]").inner_text()


@pytest.mark.skipif(
    not os.environ.get("NORTHSTAR_SCREENSHOTS"), reason="pictures are made with NORTHSTAR_SCREENSHOTS=1"
)
def test_pictures_for_the_docs(chromium, pages):
    for name, path, width, scheme in (("executive", "/", 1400, "light"), ("executive_phone", "/", 390, "light"), ("operations_dark", "/operations", 1400, "dark"),
                                      ("metrics", "/metrics", 1400, "light")):  # fmt: skip
        with opened(chromium, pages + path, width) as page:
            if scheme == "dark":
                darken(page)
            page.screenshot(path=ROOT / "docs" / "images" / f"{name}.png")
