"""The search box's answers: metrics, pages, panels, chapters of the docs, and customers where they have pages."""

import pytest
from flask import Flask

from northstar.use.marts import Marts
from northstar.use.pages.manual import add_manual
from northstar.use.pages.search import FOUND, add_search, find_customers
from tests.support import select


@pytest.fixture(scope="module")
def marts(built):
    return Marts(built)


@pytest.fixture(scope="module")
def browser(marts):
    server = Flask("search")
    add_search(server, lambda: marts)
    add_manual(server, marts.settings.root)
    return server.test_client()


def found(browser, query: str) -> list[tuple[str, str]]:
    hits = browser.get("/search", query_string={"q": query}).get_json()
    assert len(hits) <= FOUND and all(set(hit) == {"kind", "title", "detail", "path"} for hit in hits)
    return [(hit["kind"], hit["title"]) for hit in hits]


def test_what_is_asked_for_comes_first(browser):
    assert found(browser, "mrr")[0] == ("metric", "MRR") and ("docs", "MRR") in found(browser, "mrr")
    assert found(browser, "  Revenue ")[0] == ("page", "Revenue")
    assert found(browser, "churn customer")[0] == ("metric", "Customer churn rate")
    assert found(browser, "customer_churn_rate")[0] == ("metric", "Customer churn rate")
    assert ("panel", "Paying cohorts") in found(browser, "paying coh")
    assert found(browser, "quarantined")[0][0] == "docs"
    assert found(browser, "alerts")[0] == ("page", "Alerts")
    assert found(browser, "") == found(browser, " \t") == found(browser, "zzzz nothing") == []
    assert found(browser, "%") != found(browser, "zzzz") or found(browser, "%") == []
    assert len(found(browser, "a")) == FOUND and browser.get("/search?q=" + "x" * 5_000).get_json() == []


def test_what_is_found_is_there(browser):
    paths = {
        hit["path"]
        for query in ("glossary", "mrr", "alerts", "bridge")
        for hit in browser.get(f"/search?q={query}").get_json()
    }
    docs = {path.partition("#") for path in paths if path.startswith("/docs/")}
    assert len(docs) > 4
    for page, _, anchor in docs:
        assert f'id="{anchor}"' in browser.get(page).text
    assert {path.partition("?")[0] for path in paths} & {"/metrics", "/alerts", "/"}


def test_customers_are_found_where_they_have_pages(browser, marts):
    account = select(marts.settings, "select min(account_id) as id from dim_accounts")[0]["id"]
    assert ("customer", account) not in found(browser, account[:3])
    server = Flask("with customers")
    add_search(server, lambda: marts)
    server.add_url_rule("/customers/<path:account_id>", "customer", lambda account_id: account_id)
    hits = server.test_client().get("/search", query_string={"q": account.upper()}).get_json()
    assert [hit["title"] for hit in hits if hit["path"] == f"/customers/{account}"] == [account]
    # what a pattern would match is no beginning of an id
    assert find_customers(marts, "%%") == find_customers(marts, "__") == find_customers(marts, account[:1]) == []
