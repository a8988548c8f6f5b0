"""The pages in a real browser: that they show what the marts say, on a desk and on a phone, and to those who do not see them.

NORTHSTAR_SCREENSHOTS=1 writes the pictures of the README and the docs.
"""

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from dateutil.relativedelta import relativedelta

from northstar.base.clock import GRAINS
from northstar.base.formats import format_value
from northstar.base.settings import ROOT
from northstar.use.alerts.evaluate import _link
from northstar.use.explain.recorded import record_queries
from northstar.use.marts import Marts, nearest
from northstar.use.notes import delete_note, list_notes
from northstar.use.pages import door, serve
from northstar.use.pages.contents import read_pages
from northstar.use.pages.links import page_path
from northstar.use.words import title_of
from northstar.warehouse import db
from tests.support import later_versions, longer_history

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (apt-get install chromium)")
PAGES = {
    page["title"]: "/" if page["title"] == "Executive" else f"/{page['title'].lower().replace(' ', '-')}"
    for page in read_pages()
}
READY = """() => {
  const graphs = [...document.querySelectorAll('.dash-graph')];
  // the pages Alerts and Preview have tables, or say that there is nothing, and no graph
  return document.querySelector('[data-version]') && (graphs.length || document.querySelector('#alerts-open .northstar-table, #alerts-open .northstar-empty, #preview-last .northstar-table, #preview-last .northstar-empty')) && graphs.every(g => ((g.querySelector('.js-plotly-plot') || {}).layout || {}).meta)
    && !document.querySelector('.dash-spinner-container, .northstar-waits')
}"""
PAGES |= {"Alerts": "/alerts", "Metrics": "/metrics", "Preview": "/preview"}
DESK, TABLET, PHONE = WIDTHS = (1400, 820, 390)
LINES = """() => Object.fromEntries([...document.querySelectorAll('.dash-graph')].map(g => [g.id, g.querySelector('.js-plotly-plot')._fullData
  .filter(t => t.type === 'scatter' || t.type === 'bar').map(t => [t.name, t.orientation === 'h' ? Array.from(t.x) : Array.from(t.y)])]))"""
# what does not fit its box is cut off, or lies on its neighbour; tables and the page scroll, and say so
CUT = """() => [...document.querySelectorAll('.northstar-card *, .northstar-banner, .figure-title, #page-title')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline').map(e => e.className + ': ' + e.textContent)"""
TICKS = "() => [...document.querySelectorAll('.xtick text, .ytick text')].map(t => t.textContent)"
BESIDE = """() => { const right = document.documentElement.clientWidth;
  return [...document.querySelectorAll('.dash-graph .js-plotly-plot, .northstar-card')].filter(e => e.getBoundingClientRect().right > right + 1).length }"""


@pytest.fixture(scope="module")
def pages(built):
    """The address of the pages of the built warehouse."""
    command = serve.command(built)
    with open(built.logs / "pages.log", "wb") as log:
        server = subprocess.Popen(command, env=serve.environment(built), stdout=log, stderr=log, cwd=built.home)
    try:
        deadline = time.monotonic() + 90
        while not serve.is_answering(built):
            assert server.poll() is None and time.monotonic() < deadline, (built.logs / "pages.log").read_text()
            time.sleep(0.2)
        yield serve.url(built)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def chromium(built):
    """A browser whose contexts know the password of the built warehouse's pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield SimpleNamespace(
            new_context=partial(browser.new_context, extra_http_headers=door.credentials(built)),
            new_stranger=browser.new_context,
        )
        browser.close()


@contextmanager
def opened(chromium, address: str, width: int):
    """A page of a new context, drawn to the end; fails for any error in its console."""
    context = chromium.new_context(viewport={"width": width, "height": 900})
    # a machine that is busy with other tests is slow; how fast the pages are is measured in benchmarks/pages.py
    context.set_default_timeout(90_000)
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
    # the charts that are not in the window follow
    page.wait_for_function(READY)


def lighten(page) -> None:
    """Back to the light theme."""
    page.locator("#theme-toggle").click()
    page.wait_for_function("() => document.documentElement.getAttribute('data-bs-theme') === 'light'")


def obstacles(page, **options) -> list[tuple]:
    """What axe finds that is serious or worse; `options` are axe's own."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]


def go(page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(READY)


def choose(page, control: str, option: str) -> None:
    """Choose an option of a dropdown, and wait until it is drawn."""
    from playwright.sync_api import TimeoutError as NothingHappened

    opener = page.locator(f"#{control} .dash-dropdown").first
    for patience in (15_000, 30_000, 90_000):
        # a control that is being drawn anew may lose a click; whoever sees that chooses again
        opener.click()
        search = page.locator("div.dash-dropdown-content input[type=search]")
        if search.count():
            search.fill(option)
        try:
            with page.expect_response(lambda r: "_dash-update-component" in r.url, timeout=patience):
                page.locator("div.dash-dropdown-content [role=option]").get_by_text(option, exact=True).first.click()
            break
        except NothingHappened:
            if option in opener.inner_text():
                break
            if patience == 90_000:
                raise
    page.wait_for_timeout(300)
    page.wait_for_function(READY)


def newest(settings, application: str = "all", grain: str = "month") -> dict[str, str]:
    """{metric: its newest complete value as it is shown} of all metrics that have the grain."""
    currency = settings.rules.reporting_currency
    with db.connect(settings, "bi_reader") as connection:
        rows = connection.execute(
            "select distinct on (v.metric_id) v.metric_id, v.value, m.unit from metric_values as v join metrics as m using (metric_id) "
            "where v.grain = %s and v.application = %s and v.segment = '' and v.is_complete order by v.metric_id, v.period_start desc",
            [grain, application],
        ).fetchall()
    return {row["metric_id"]: format_value(row["value"], row["unit"], currency) for row in rows}


def cards(page) -> dict[str, str]:
    found = page.evaluate(
        "() => [...document.querySelectorAll('.northstar-card')].map(c => [c.dataset.metric, c.querySelector('.northstar-card-value').textContent])"
    )
    return dict(found)


@pytest.fixture(scope="module", params=WIDTHS)
def visited(request, chromium, pages):
    """(width, {title: what was seen}) of every page on a desk (in both themes), a tablet and a phone."""
    seen = {}
    with opened(chromium, pages, request.param) as page:
        for title, path in PAGES.items():
            go(page, pages + path)
            seen[title] = {
                "cards": cards(page), "lines": page.evaluate(LINES), "cut": page.evaluate(CUT), "beside": page.evaluate(BESIDE),
                "ticks": page.evaluate(TICKS), "wide": page.evaluate("() => document.documentElement.scrollWidth"), "banner": page.locator(".northstar-banner").all_inner_texts(),
                "labels": page.evaluate("() => [...document.querySelectorAll('.js-plotly-plot')].map(p => p.getAttribute('aria-label'))"),
                "empty": page.evaluate("() => [...document.querySelectorAll('.js-plotly-plot')].filter(p => !p._fullData.length).map(p => p.layout.meta)"),
            }  # fmt: skip
            # a tablet's page is a desk's with one column, and colours are the same at any width
            if request.param != TABLET:
                seen[title]["light"] = obstacles(page)
            if request.param == DESK:
                darken(page)
                # a theme changes colours alone
                seen[title]["dark"] = obstacles(page, runOnly=["color-contrast"])
                lighten(page)
    return request.param, seen


def test_the_numbers_on_the_pages_are_those_of_the_marts(visited, built):
    expected, compared = newest(built), 0
    for title, seen in visited[1].items():
        for metric, value in seen["cards"].items():
            if metric in expected:
                assert value == expected[metric], (title, metric)
                compared += 1
    assert compared > 30


def test_every_line_and_bar_is_drawn_from_the_values_of_the_marts(visited, built):
    """Each against a statement of its own: of the newest complete periods of a year, of one metric or of a segment of it."""
    compared = 0
    with db.connect(built, "bi_reader") as connection:
        known = {r["metric_id"]: r for r in connection.execute("select metric_id, grains from metrics")}
        as_of = connection.execute("select max(as_of) as t from publications").fetchone()["t"]
        for page in read_pages():
            for number, panel in enumerate(page["panels"]):
                traces = visited[1][page["title"]]["lines"].get(f"{page['title'].lower().replace(' ', '-')}-{number}")
                if panel["kind"] not in ("line", "bars") or "share_of" in panel or not traces:
                    continue
                for metric in panel["metrics"]:
                    grain = nearest("month", [g for g in GRAINS if g in re.split("[,;]", known[metric]["grains"])])
                    rows = connection.execute(
                        "select segment_value, array_agg(value::float order by period_start) as y from metric_values where metric_id = %s and grain = %s "
                        "and application = 'all' and segment = %s and is_complete and value is not null and period_start >= %s group by 1",
                        [metric, grain, panel.get("segment", ""), as_of - relativedelta(months=12)],
                    ).fetchall()  # fmt: skip
                    if panel["kind"] == "bars":
                        newest_of = {r["segment_value"]: r["y"][-1] for r in rows}
                        drawn = traces[0][1]
                        whole = panel.get("headroom")
                        known_values = [pytest.approx(whole - v if whole else v) for v in newest_of.values()]
                        assert all(any(bar == value for value in known_values) for bar in drawn), panel
                        compared += len(drawn)
                        continue
                    by_name = {(r["segment_value"] or title_of(metric)): r["y"] for r in rows}
                    for name, y in traces:
                        if name in by_name:
                            assert y == by_name[name], (page["title"], panel["title"], name)
                            compared += len(y)
    assert compared > 300


def test_on_every_screen_everything_fits(visited):
    width, pages = visited
    for title, seen in pages.items():
        assert seen["wide"] <= width and not seen["beside"], f"{title} is wider than the screen"
        assert not seen["cut"], title
        assert all(seen["labels"]), f"{title}: a chart without words"
        assert not [t for t in seen["ticks"] if re.search(r"\de[+−-]?\d", t)], f"{title}: an exponent on an axis"


def test_every_page_names_its_version_and_says_that_the_data_is_old_and_which_check_failed(visited):
    for title, seen in visited[1].items():
        told = " ".join(seen["banner"])
        assert re.search(
            r"Version 1, published \d{4}-\d\d-\d\d \d\d:\d\d UTC, data up to 2026-03-01 00:00 UTC", told
        ), title
        assert "was asked for that time" in told and "Warnings of the audit: " in told, title


def test_no_serious_obstacle_for_those_who_use_a_keyboard_or_a_screen_reader(visited):
    for title, seen in visited[1].items():
        for theme in ("light", "dark"):
            assert not seen.get(theme), (title, theme)


def test_a_page_is_read_and_changed_by_keyboard_alone(chromium, pages, built):
    with opened(chromium, pages + "/revenue", DESK) as page:
        focused = "() => { const e = document.activeElement.closest('[id$=-application]'); return e && e.id; }"
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == "revenue-application":
                break
        assert page.evaluate(focused) == "revenue-application"
        page.keyboard.press("Enter")
        # the list opens with the focus on what is chosen
        at = "() => document.activeElement.closest('[role=option]') && document.activeElement.value"
        page.wait_for_function(at)
        while (before := page.evaluate(at)) != "web":
            page.keyboard.press("ArrowDown")
            page.wait_for_function(f"before => ({at})() !== before", arg=before)
        with page.expect_response(lambda r: "_dash-update-component" in r.url):
            page.keyboard.press("Enter")
        page.wait_for_function(
            "v => document.querySelector('[data-metric=mrr] .northstar-card-value').textContent === v",
            arg=newest(built, "web")["mrr"],
        )


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


def test_the_period_says_how_far_back_a_chart_goes(chromium, pages, built):
    with (
        longer_history(built, months=40, application="web"),
        db.connect(built, "bi_reader", autocommit=True) as connection,
    ):
        starts = [r["period_start"] for r in connection.execute(
            "select period_start from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'web' and segment = '' "
            "and is_complete and value is not null").fetchall()]  # fmt: skip
        as_of = connection.execute("select max(as_of) as t from publications").fetchone()["t"]
        # a worker looks for a new version every other second
        time.sleep(2.5)
        with opened(chromium, pages + "/metrics", DESK) as page:
            choose(page, "metrics-application", "web")
            for words, months in (("3 months", 3), ("24 months", 24), ("36 months", 36), ("everything", 1200)):
                choose(page, "metrics-period", words)
                drawn = page.evaluate(
                    "() => document.querySelector('#metrics-history .js-plotly-plot')._fullData[0].x.length"
                )
                assert drawn == sum(s >= as_of - relativedelta(months=months) for s in starts), words
            assert drawn > 40


def test_the_metrics_page_tells_of_every_metric(chromium, pages, built):
    with opened(chromium, pages + "/metrics", 1400) as page:
        listed = page.evaluate(
            "() => [...document.querySelectorAll('#metrics-catalogue tbody th')].map(h => h.textContent)"
        )
        with db.connect(built, "bi_reader") as connection:
            assert sorted(listed) == sorted(r["metric_id"] for r in connection.execute("select metric_id from metrics"))
        choose(page, "metrics-metric", "Customer churn rate")
        assert "accounts" in page.locator("#metrics-about").inner_text()


def test_the_link_lets_a_browser_in_that_remembers_and_nobody_else(chromium, pages, built):
    context = chromium.new_stranger()
    context.set_default_timeout(90_000)
    page = context.new_page()
    assert context.request.get(pages + "/revenue").status == 401
    go(page, serve.link(built) + "&grain=week")
    assert "key=" not in page.url
    go(page, pages + "/revenue")
    cookie = next(c for c in context.cookies() if c["name"].startswith("northstar_"))
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    context.close()


def test_the_link_of_an_alert_opens_the_page_of_its_metric_with_its_application(chromium, pages, built):
    notice = {"page": "metrics", "metric_id": "uptime", "application": "web"}
    with opened(chromium, _link(pages, Marts(built), notice), DESK) as page:
        page.wait_for_function("() => document.querySelector('#metrics-about').textContent.includes('Uptime')")
        for control, chosen in (("metric", "Uptime"), ("application", "web")):
            assert page.locator(f"#metrics-{control} .dash-dropdown-value").first.inner_text() == chosen


# the MRR of the newest month, in every application and segment
NEWEST_MRR = "series_id in (select series_id from marts.metric_series where metric_id = 'mrr' and grain = 'month') and period_start = '2026-02-01'"


def test_a_tab_stays_at_its_version_whatever_is_published_and_says_what_was_restated_since(chromium, pages, built):
    shown = {application: newest(built, application)["mrr"] for application in ("all", "web")}
    with opened(chromium, pages + "/?as_of=1", DESK) as page:
        assert "As known at version 1" in page.locator(".northstar-past").inner_text()
        assert "still the newest version" in page.locator(".northstar-past").inner_text()
        assert cards(page)["mrr"] == shown["all"]
        with later_versions(
            built, [("metric_points", NEWEST_MRR, "value = value + 1000, numerator = numerator + 1000")]
        ):
            time.sleep(2.5)
            # another filter, another page by its link
            choose(page, "executive-application", "web")
            assert "as_of=1" in page.url and cards(page)["mrr"] == shown["web"]
            page.get_by_role("link", name="Revenue", exact=True).click()
            page.wait_for_function(
                "() => location.pathname === '/revenue' && document.querySelector('#revenue-version [data-version]')"
            )
            page.wait_for_function(READY)
            assert "as_of=1" in page.url and cards(page)["mrr"] == shown["all"]
            restated = page.locator("[data-metric=mrr] .northstar-restated").inner_text()
            assert restated == f"◆ now {newest(built)['mrr']}"
            assert obstacles(page) == []
            darken(page)
            assert obstacles(page, runOnly=["color-contrast"]) == []
            # another tab is of now, and goes there and back by the control
            other = page.context.new_page()
            go(other, pages)
            assert cards(other)["mrr"] == newest(built)["mrr"] and not other.locator(".northstar-past").count()
            other.get_by_label("As of").fill("1")
            other.get_by_label("As of").press("Enter")
            other.locator(".northstar-past").wait_for()
            other.wait_for_function(READY)
            assert cards(other)["mrr"] == shown["all"]
            other.set_viewport_size({"width": PHONE, "height": 900})
            assert other.evaluate("() => document.documentElement.scrollWidth") <= PHONE
            assert other.evaluate(CUT) == [] and obstacles(other) == []
            # the list of pages, which was open on the desk, would lie above
            other.set_viewport_size({"width": DESK, "height": 900})
            other.get_by_role("link", name="Back to now").click()
            other.locator(".northstar-past").wait_for(state="detached")
            other.wait_for_function(READY)
            assert "as_of" not in other.url and cards(other)["mrr"] == newest(built)["mrr"]
            # what stands behind a number is of the tab's version
            page.locator("[data-metric=mrr] a").click()
            panel = page.locator("#northstar-why")
            panel.locator(".northstar-past", has_text="restated since").wait_for()
            assert panel.locator(".northstar-why-value").inner_text() == shown["all"]
            panel.get_by_text("shown for the newest version only").wait_for()
    # a version that is removed while its page is open
    context = chromium.new_context(viewport={"width": DESK, "height": 900})
    context.set_default_timeout(90_000)
    page = context.new_page()
    go(page, pages + "/?as_of=1")
    # or what is still being asked for is told so already
    page.wait_for_load_state("networkidle")
    with db.connect(built, "owner") as connection:
        connection.execute("insert into marts_at_version.pruned_versions values (2)")
    try:
        page.get_by_role("link", name="Revenue", exact=True).click()
        page.get_by_role("alert").get_by_text("Version 1 is no longer kept").wait_for()
    finally:
        with db.connect(built, "owner") as connection:
            connection.execute("delete from marts_at_version.pruned_versions where oldest_version = 2")
    context.close()


def test_every_number_of_a_chart_is_opened_by_keyboard(chromium, pages):
    with opened(chromium, pages + "/journeys", DESK) as page:
        points = page.evaluate(
            """() => [...document.querySelectorAll('.dash-graph .js-plotly-plot')].map(p => p._fullData.reduce((n, t) => n + (t.type === 'sankey'
              ? t.link.value.length + t.node.label.length : t.customdata ? t.customdata.length : 0), 0))"""
        )
        buttons = page.locator(".northstar-numbers-button:not([hidden])")
        for number in range(buttons.count()):
            buttons.nth(number).focus()
            page.keyboard.press("Enter")
            listed = page.locator("#northstar-numbers a.northstar-why-link")
            assert listed.count() in points and listed.count()
            page.keyboard.press("Escape")
            assert page.evaluate("() => document.activeElement.className") == "northstar-numbers-button"
        buttons.last.press("Enter")
        assert obstacles(page) == []
        for _ in range(2):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("#northstar-why h2").wait_for()
        page.wait_for_function("() => document.activeElement.id === 'northstar-why'")
        page.keyboard.press("Escape")
        assert page.evaluate("() => document.activeElement.closest('#northstar-numbers') !== null")
        page.keyboard.press("Escape")
        assert page.locator("#northstar-numbers").is_hidden()


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


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_number_opens_what_stands_behind_it_and_has_a_link_of_its_own(chromium, pages, built, width):
    record_queries(built)
    with opened(chromium, pages, width) as page:
        shown = page.locator(".northstar-card[data-metric=mrr] .northstar-card-value").inner_text()
        page.locator(".northstar-card[data-metric=mrr] a").click()
        panel = page.locator("#northstar-why")
        assert panel.locator("h2").inner_text() == "MRR"
        assert panel.locator(".northstar-why-value").inner_text() == shown
        # the rows follow by themselves
        panel.locator("h4", has_text="as published").wait_for()
        assert obstacles(page) == []
        assert page.evaluate("() => document.activeElement.id") == "northstar-why"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        address = page.url
        panel.locator("a.northstar-why-link").first.click()
        panel.locator(".northstar-why-place", has_text="plan tier").wait_for()
        panel.get_by_role("button", name="Back").click()
        panel.locator(".northstar-why-place", has_not_text="plan tier").wait_for()
        page.keyboard.press("Escape")
        assert panel.is_hidden() and "#why" not in page.url
        # the reader is back where he was
        assert page.evaluate("() => document.activeElement.getAttribute('href')").startswith("/why/mrr?")
        if width == DESK:
            # a point of a chart, as Plotly tells of a click on it
            page.evaluate(
                """() => { const plot = [...document.querySelectorAll('.dash-graph .js-plotly-plot')].find(p => p._fullData.some(t => t.meta));
                  const line = plot._fullData.find(t => t.meta); plot.emit('plotly_click', {event: {clientY: 0}, points: [{data: line, x: line.x[0], y: line.y[0]}]}); }"""
            )
            panel.locator(".northstar-why-value").wait_for()
    with opened(chromium, address, width) as page:
        page.locator("#northstar-why h2", has_text="MRR").wait_for()
    with opened(chromium, address.partition("#")[0] + "#why=https://elsewhere.example/why/", width) as page:
        assert not page.locator("#northstar-why").count() or page.locator("#northstar-why").is_hidden()


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_every_panel_is_taken_away_by_keyboard_as_rows_and_as_a_picture(chromium, pages, built, tmp_path, width):
    with opened(chromium, pages + page_path("Executive", application="web"), width) as page:
        panels = page.evaluate("() => [...document.querySelectorAll('.northstar-take')].map(e => e.dataset.panel)")
        assert panels == [f"executive-{number}" for number in range(len(read_pages()[0]["panels"]))]
        # cards, a chart, a table
        for name in (panels[0], panels[3], panels[-1]):
            menu = page.locator(f".northstar-take[data-panel={name}]")
            menu.locator("summary").focus()
            page.keyboard.press("Enter")
            taken = {}
            for kind in ("csv", "xlsx", "png", "svg"):
                page.keyboard.press("Tab")
                with page.expect_download() as download:
                    page.keyboard.press("Enter")
                taken[kind] = tmp_path / download.value.suggested_filename
                download.value.save_as(taken[kind])
                assert re.fullmatch(rf"northstar_executive_[a-z-]+_v1\.{kind}", taken[kind].name)
            rows = taken["csv"].read_text().splitlines()
            assert rows[0].startswith("metric_id,application,") and ",web," in rows[1]
            assert taken["xlsx"].read_bytes()[:2] == b"PK" and taken["png"].read_bytes()[1:4] == b"PNG"
            drawn = taken["svg"].read_text()
            assert "application web" in drawn and "Version 1, published" in drawn and drawn.count("<text") > 5
            if name == panels[0]:
                assert not obstacles(page)
            page.keyboard.press("Escape")
            assert menu.get_attribute("open") is None
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_link_that_is_shared_shows_the_same(chromium, pages):
    seen = """() => [[...document.querySelectorAll('.js-plotly-plot')].map(p => p.layout.meta), [...document.querySelectorAll('.northstar-card')].map(c => c.textContent),
      [...document.querySelectorAll('.dash-dropdown-value')].map(v => v.textContent)]"""
    chosen = {"application": "web", "period": "3 months", "grain": "week", "segment": "country"}
    with opened(chromium, pages, DESK) as page:
        for control, option in chosen.items():
            choose(page, f"executive-{control}", option)
        address, shown = page.url, page.evaluate(seen)
    assert set(chosen.values()) <= set(shown[2])
    with opened(chromium, address, DESK) as page:
        page.wait_for_function(
            "shown => JSON.stringify((" + seen + ")()) === shown",
            arg=json.dumps(shown, ensure_ascii=False, separators=(",", ":")),
        )
        assert page.url == address


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_metric_and_a_chapter_are_found_from_the_keyboard(chromium, pages, width):
    with opened(chromium, pages + "/revenue", width) as page:
        box, found = page.locator("#northstar-search"), page.locator("#northstar-found [role=option]")
        page.keyboard.press("/" if width == DESK else "Control+k")
        page.keyboard.type("churn rate")
        found.filter(has_text="Customer churn rate").first.wait_for()
        assert not obstacles(page) and page.evaluate("() => document.documentElement.scrollWidth") <= width
        first = page.evaluate("() => document.activeElement.getAttribute('aria-activedescendant')")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        assert page.evaluate("() => document.activeElement.getAttribute('aria-activedescendant')") == first
        page.keyboard.press("Escape")
        assert box.is_hidden() and page.url.startswith(pages + "/revenue")
        page.locator(".northstar-search-open").click()
        page.keyboard.type("customer_churn_rate")
        # titles first, then definitions that name it
        page.wait_for_function(
            "() => ((document.querySelector('#northstar-found [role=option] strong') || {}).textContent || '') === 'Customer churn rate'"
        )
        page.keyboard.press("Enter")
        page.wait_for_url("**/metrics?*")
        page.wait_for_function(
            "() => (document.querySelector('#metrics-about') || {textContent: ''}).textContent.includes('Customer churn rate')"
        )
        page.keyboard.press("Control+k")
        page.keyboard.type("who is told")
        found.filter(has_text="Who is told").first.wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/docs/pages_reports_alerts#who-is-told")
        page.locator("#who-is-told").wait_for()
        assert not obstacles(page) and page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_reader_saves_a_view_and_comes_back_to_it(chromium, pages, width):
    with opened(chromium, pages + page_path("Revenue", application="web", grain="week"), width) as page:
        page.locator(".northstar-views-open").click()
        dialog = page.locator("#northstar-views")
        assert "No view is saved yet" in dialog.inner_text()
        # nothing is sent from a home without notify.yml
        dialog.locator("p", has_text="notify.yml").wait_for()
        page.keyboard.type("<b>Web</b>, by week")
        page.keyboard.press("Enter")
        dialog.locator("a", has_text="<b>Web</b>, by week").wait_for()
        assert not obstacles(page) and page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.keyboard.press("Escape")
        assert dialog.is_hidden()
        go(page, pages + "/alerts")
        page.locator(".northstar-views-open").click()
        dialog.locator("a").click()
        page.wait_for_url("**/revenue?*")
        page.wait_for_function(READY)
        assert page_path("Revenue", application="web").partition("?")[2] in page.url
        assert page.locator("#revenue-grain .dash-dropdown-value").first.inner_text() == "week" or width == PHONE
        page.locator(".northstar-views-open").click()
        dialog.get_by_role("button", name="Delete <b>Web</b>, by week").click()
        assert "No view is saved yet" in dialog.inner_text()


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_the_pages_of_customers_are_reached_fit_and_have_no_obstacles(chromium, pages, width):
    with opened(chromium, pages, width) as page:
        # on a phone the navigation is folded away
        page.evaluate("() => document.querySelector('.northstar-customers-link').click()")
        page.wait_for_selector(".northstar-customers-table")
        assert obstacles(page) == [] and page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.locator("select[name=status]").select_option("paying")
        page.get_by_role("search").get_by_role("button", name="Show").click()
        page.wait_for_url(re.compile("status=paying"))
        account = page.locator(".northstar-customers-table tbody th a").first
        name = account.inner_text()
        account.click()
        page.wait_for_selector(".northstar-customer-drawing path")
        assert page.locator("h1").inner_text() == name
        assert obstacles(page) == [] and page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name="Executive").click()
        page.wait_for_function(READY)


def test_a_mark_on_a_chart_opens_what_happened_and_takes_a_note(chromium, pages, built):
    with opened(chromium, pages + "/revenue", DESK) as page:
        page.evaluate(
            """() => { const plot = [...document.querySelectorAll('.dash-graph .js-plotly-plot')].find(p => p._fullData.some(t => t.name === 'marks'));
              const marks = plot._fullData.find(t => t.name === 'marks');
              plot.emit('plotly_click', {event: {clientY: 0}, points: [{data: marks, x: marks.x[0], y: marks.y[0], customdata: marks.customdata[0]}]}); }"""
        )
        page.wait_for_selector("#northstar-why .northstar-note")
        assert obstacles(page) == []
        page.locator("#northstar-why textarea").fill("A campaign began")
        page.locator("#northstar-why input[name=by]").fill("Ana")
        page.locator("#northstar-why .northstar-note button").click()
        page.wait_for_selector(".northstar-marks")
        try:
            assert "A campaign began (Ana)" in page.locator(".northstar-marks").inner_text()
            assert [note["by_whom"] for note in list_notes(built)] == ["Ana"]
        finally:
            for note in list_notes(built):
                delete_note(built, note["mark_id"])


def test_what_is_not_near_waits_and_is_there_for_who_scrolls_prints_or_uses_the_keyboard(chromium, pages, built):
    near = "() => [...document.querySelectorAll('.dash-graph')].filter(g => g.getBoundingClientRect().top < innerHeight).every(g => ((g.querySelector('.js-plotly-plot') || {}).layout || {}).meta)"
    waits = "() => [...document.querySelectorAll('.northstar-waits')].map(e => (e.closest('[id]') || e.parentElement.closest('[id]')).id)"
    shows = "([name, metric]) => JSON.stringify(Array.from(document.querySelector(`#${name} .northstar-plot`)._fullData[0].y)) === metric"
    context = chromium.new_context(viewport={"width": DESK, "height": 900})
    context.set_default_timeout(90_000)
    page = context.new_page()
    # a browser that always has something else to do
    page.add_init_script("window.requestIdleCallback = () => 1")
    try:
        page.goto(pages + "/revenue")
        page.wait_for_function(
            f"() => document.querySelector('.northstar-card') && document.querySelector('.js-plotly-plot') && ({near})() && ({waits})().length"
        )
        waiting = page.evaluate(waits)
        assert "revenue-1" not in waiting and "revenue-11" in waiting
        # a screen reader has the words of a chart that is not drawn, and the keyboard its numbers
        page.wait_for_function(
            "() => [...document.querySelectorAll('.northstar-plot')].every(p => p.getAttribute('aria-label'))"
        )
        page.locator("#revenue-11").locator("xpath=..").locator(".northstar-numbers-button").press("Enter")
        assert page.locator("#northstar-numbers a.northstar-why-link").count() > 3
        page.keyboard.press("Escape")
        page.locator("#revenue-5").scroll_into_view_if_needed()
        page.wait_for_function("() => !document.querySelector('#revenue-5.northstar-waits')")
        # what a choice made stale is not drawn any more; paper has what was chosen last
        page.evaluate("() => document.querySelector('#page-title').scrollIntoView()")
        for option in ("coaching", "web"):
            page.locator("#revenue-application .dash-dropdown").first.click()
            with page.expect_response(lambda r: "_dash-update-component" in r.url):
                page.locator("div.dash-dropdown-content [role=option]").get_by_text(option, exact=True).first.click()
        expected = Marts(built).series(["cash_collected"], "web", "month", 12, "")
        paid = json.dumps([float(v) for v in expected[expected["is_complete"].astype(bool)]["value"]])
        page.wait_for_function(f"() => ({waits})().includes('revenue-11')")
        page.evaluate(
            "async () => { for (let i = 0; i < 100 && !document.querySelector('#revenue-11').style.visibility; i++) await new Promise(r => requestAnimationFrame(r)); }"
        )
        page.wait_for_function(
            f"paid => {{ window.dispatchEvent(new Event('beforeprint')); window.dispatchEvent(new Event('afterprint')); return !({waits})().length && ({shows})(['revenue-11', paid]); }}",
            arg=paid.replace(".0,", ",").replace(".0]", "]").replace(" ", ""),
        )
        # the table of targets is as long as its rows, and searched whole
        page.goto(pages + "/product")
        page.wait_for_selector("#product-9 [data-markup].northstar-waits")
        page.locator("#product-9 input").fill("no target has this name")
        page.wait_for_function(
            "() => { const rows = [...document.querySelectorAll('#product-9 tbody tr')]; return rows.length > 12 && rows.every(row => row.hidden); }"
        )
    finally:
        context.close()


def test_a_first_visit_is_told_what_can_be_asked_once_and_paper_has_the_whole_page(chromium, pages):
    with opened(chromium, pages, DESK) as page:
        hints = page.locator("#northstar-hints")
        assert hints.locator("li").count() == 3 and obstacles(page) == []
        on_screen = page.evaluate("() => document.documentElement.scrollHeight")
        page.emulate_media(media="print")
        # what scrolls on a screen is whole, and what is for a hand is left out
        assert page.evaluate("() => document.documentElement.scrollHeight") > 2 * on_screen
        for left_out in ("#northstar-hints", "#left-side", ".northstar-as-of", ".northstar-take"):
            assert page.locator(left_out).first.is_hidden(), left_out
        page.emulate_media(media="screen")
        hints.get_by_role("button").focus()
        page.keyboard.press("Escape")
        assert hints.count() == 0 and page.evaluate("() => document.activeElement.id") == "page-title"
        go(page, pages + "/revenue")
        assert hints.count() == 0
        # a theme that was chosen is that of the other pages too, and of the next visit
        darken(page)
        page.goto(pages + "/customers")
        assert page.evaluate("() => document.documentElement.getAttribute('data-bs-theme')") == "dark"
        assert obstacles(page) == []
        go(page, pages)
        assert page.evaluate("() => document.documentElement.getAttribute('data-bs-theme')") == "dark"
