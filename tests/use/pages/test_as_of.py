"""Pages as of an earlier version: which requests are answered from which version, and what an address says that names none."""

import re

import pytest
from flask import Flask

from northstar.use.marts import Marts
from northstar.use.pages import app
from northstar.use.pages.as_of import HEADER, VersionedDropdown, obey_as_of, past_words, shown_marts
from northstar.use.pages.contents import read_pages
from northstar.use.pages.customers import add_customers
from northstar.use.pages.links import path_as_of
from northstar.use.pages.painter import Painter
from northstar.use.pages.why import add_why
from northstar.use.past import PastMarts
from tests.support import later_versions, select

FEBRUARY = "series_id in (select series_id from marts.metric_series where metric_id in ('mrr', 'csat') and grain = 'month') and period_start = '2026-02-01'"
# what each mart's panel shows, changed in version 2
CHANGES = [
    ("metric_points", FEBRUARY, "value = value * 2, numerator = numerator * 2"),
    ("cohort_retention", "months_since = 1", "retention_percent = 12.5"),
    ("funnel_stages", "stage_number = 1", "visitors = visitors + 1000"),
    ("user_paths", "true", "sessions = sessions + 5"),
    ("churn_reasons", "true", "accounts = accounts + 3"),
    ("mrr_movements", "true", "amount_exact = amount_exact + 1"),
    ("mrr_bridge", "true", "opening_mrr = opening_mrr + 1, new_mrr = new_mrr + 1"),
    ("metric_status", "metric_id = 'uptime'", "value = value + 0"),
    ("dim_accounts", "account_id = (select min(account_id) from marts.dim_accounts)", "application = 'zeta'"),
]
# the first panel of each kind
DRAWN = {panel["kind"]: panel for page in reversed(read_pages()) for panel in reversed(page["panels"])}


@pytest.fixture(scope="module")
def newest(built):
    with later_versions(built, CHANGES):
        yield Marts(built)


@pytest.fixture(scope="module")
def browser(newest):
    server = Flask("pages")
    obey_as_of(server, lambda: newest)
    add_why(server, lambda: shown_marts(newest))
    add_customers(server, lambda: shown_marts(newest), ["Executive"])
    for path in ("/", "/revenue", "/assets/northstar.css"):
        server.add_url_rule(path, path, lambda: str(shown_marts(newest).published().version))
    return server.test_client()


def test_a_request_is_answered_from_the_version_that_it_names(browser, newest):
    assert browser.get("/revenue").text == "2"
    assert browser.get("/revenue?as_of=1").text == "1" == browser.get("/", headers={HEADER: "1"}).text
    # one after the other, on whatever thread: nothing is kept of who asked before
    assert [browser.get("/", headers={HEADER: str(v)}).text for v in (1, 2, 1)] == ["1", "2", "1"]
    assert browser.get("/").text == "2"
    # an address goes before the page that it was opened from
    assert browser.get("/?as_of=2", headers={HEADER: "1"}).text == "2"
    assert shown_marts(newest) is newest


def test_a_time_becomes_the_version_that_was_the_newest_then_and_an_empty_field_means_now(browser, built):
    published = select(built, "select published_at from publications where published_version = 1")[0]["published_at"]
    answer = browser.get("/revenue", query_string={"as_of": published.isoformat(), "grain": "week", "n": ["1", "2"]})
    assert answer.status_code == 303 and answer.headers["Location"] == "/revenue?grain=week&n=1&n=2&as_of=1"
    assert browser.get("/revenue?as_of=+1+&x=y").headers["Location"] == "/revenue?x=y&as_of=1"
    assert browser.get("/revenue?as_of=&x=y").headers["Location"] == "/revenue?x=y"
    elsewhere = browser.get("/", query_string="as_of=", environ_overrides={"PATH_INFO": "//elsewhere.example.org/"})
    assert elsewhere.headers["Location"] == "/elsewhere.example.org/"


@pytest.mark.parametrize(
    "asked", ["99", "0", "soon", "2020-01-01", "2999-01-01", "<script>alert(1)</script>", "1" * 200]
)
def test_a_version_that_is_not_there_is_one_line_and_leads_back(browser, asked):
    answer = browser.get("/revenue", query_string={"as_of": asked, "grain": "week"})
    words = re.findall(r"<p role=\"alert\">(.*)</p>", answer.text)
    assert answer.status_code == 404 and len(words) == 1 and "<script>" not in answer.text
    assert 'href="/revenue?grain=week"' in answer.text and len(words[0]) < 150
    # a page that is open loads again, and says this
    assert browser.get("/", headers={HEADER: asked}).status_code == 410
    # what belongs to no version is there all the same
    assert browser.get("/assets/northstar.css", headers={HEADER: asked}).status_code == 200


def test_the_panel_of_an_earlier_number_says_what_it_can(browser):
    address = "/why/mrr?grain=month&period=2026-02-01"
    then, now = browser.get(f"{address}&as_of=1").text, browser.get(address).text
    value = re.search(r'why-value">([^<]+)<', then)[1]
    assert value != re.search(r'why-value">([^<]+)<', now)[1]
    assert "As known at version 1; restated since: now " in then and "As known" not in now
    assert "had not changed by then" in then and "Version 1, data up to" in then
    # its links stay there, and one leads to now
    links = re.findall(r'href="(/[^"]*)"', then)
    assert {link for link in links if "as_of=1" not in link} == {
        "/assets/northstar.css", "/assets/northstar_print.css", "/why/mrr?grain=month&amp;application=all&amp;period=2026-02-01"
    }  # fmt: skip
    rows = browser.get("/why/mrr/rows?grain=month&period=2026-02-01&as_of=1").text
    assert "The landed rows behind a number are shown for the newest version only" in rows and "As of now" in rows
    mart = "/why/mart/cohort_retention?cohort_kind=paying&application=all&months_since=1"
    assert (
        "As known at version 1." in browser.get(f"{mart}&as_of=1").text
        and "12.5" not in browser.get(f"{mart}&as_of=1").text
    )
    assert "12.5" in browser.get(mart).text


@pytest.mark.parametrize("kind", [kind for kind in DRAWN if kind not in ("cards", "targets", "experiments", "budgets")])
def test_each_kind_of_panel_shows_what_it_showed_and_marks_what_was_restated(newest, built, kind):
    panel = DRAWN[kind]
    if kind in ("line", "bars"):
        panel = {"title": "", "kind": kind, "metrics": ["mrr"], **({"segment": "plan_tier"} if kind == "bars" else {})}
    then, now = (Painter(marts).draw(panel, "all", "month", 12, "") for marts in (PastMarts(newest, 1), newest))
    words = then.layout.meta
    assert words != now.layout.meta and ("now " in words or "restated since" in words), words
    assert "◆" not in str(now) and "restated since" not in str(now)
    # a mark is seen: a symbol of its own, or the diamond in a text
    assert "◆" in str(then.data) or "diamond" in str(then.data)


def test_cards_and_tables_mark_what_was_restated(newest, monkeypatch):
    then = PastMarts(newest, 1)
    panel = {"title": "Revenue", "kind": "cards", "metrics": ["mrr"]}
    assert "◆ now " in str(Painter(then).cards(panel, "all", "month"))
    assert "◆" not in str(Painter(newest).cards(panel, "all", "month"))
    assert "◆ now " in str(app._catalogue_table(then, "all")) and "◆" not in str(app._catalogue_table(newest, "all"))
    monkeypatch.setattr(app, "painter", lambda: Painter(then))
    assert "zeta" not in app.offered_applications() and {"label": "MRR", "value": "mrr"} in app.offered_metrics()
    assert "A version keeps the alerts of its targets" in str(app.shown_alerts(then, "all"))
    assert "belongs to no published version" in str(app.last_preview(data_frame=None)())


def test_a_choice_offers_what_the_version_has_when_the_page_is_opened():
    offered = ["all", "web"]
    choice = VersionedDropdown.of(lambda: list(offered), "Application", "all")
    offered.append("zeta")
    assert [option["value"] for option in choice.build().children[1].options] == ["all", "web", "zeta"]


def test_the_banner_names_the_version_its_time_and_the_way_back(newest):
    words = str(past_words(PastMarts(newest, 1).published(), newest.published()))
    assert "As known at version 1, published " in words and "its data was complete up to 2026-03-01 00:00 UTC" in words
    assert "up to version 2, is marked" in words and "Back to now" in words
    assert "It is still the newest version" in str(past_words(newest.published(), newest.published()))
    assert (
        path_as_of("/x?y=1", 3) == "/x?y=1&as_of=3"
        and path_as_of("/x", 3) == "/x?as_of=3"
        and path_as_of("/x", None) == "/x"
    )


def test_the_pages_of_customers_are_those_of_the_version_and_so_are_their_links(browser, newest):
    for version in (1, 2):
        text = browser.get(f"/customers?as_of={version}&status=paying").text
        assert f"As known at version {version}, published" in text and 'class="northstar-now"' in text
        # the filter, sorting, customers, other pages
        assert f'<input type="hidden" name="as_of" value="{version}">' in text
        inner = [path for path in re.findall(r'href="(/[^"]*)"', text) if not path.startswith("/assets/")]
        assert len(inner) > 10 and all(f"as_of={version}" in path for path in inner)
        customer = next(path for path in inner if path.startswith("/customers/"))
        assert f"As known at version {version}" in browser.get(customer.replace("&amp;", "&")).text
        assert f"As known at version {version}" in browser.get(f"/customers/nobody?as_of={version}").text
    now = browser.get("/customers").text
    assert "Version 2, published" in now and "As known at" not in now and "as_of=" not in now
