"""The pages of the docs as the pages show them: whole, with links that lead somewhere, and nothing that runs."""

import re

import pytest
from flask import Flask

from northstar.base.settings import ROOT
from northstar.use.pages.manual import DOCS, add_manual, chapters


@pytest.fixture(scope="module")
def browser():
    server = Flask("docs")
    add_manual(server, ROOT)
    return server.test_client()


def test_every_page_is_shown_and_its_links_lead_somewhere(browser):
    pages = {name: browser.get(f"/docs/{name}") for name in DOCS}
    anchors = {name: set(re.findall(r'<h\d id="([^"]+)"', page.text)) for name, page in pages.items()}
    for name, page in pages.items():
        # nothing runs but what makes it dark or light
        scripts = re.findall(r"<script[^>]*>", page.text)
        assert (
            page.status_code == 200 and "<h1" in page.text and scripts == ['<script src="/assets/northstar_theme.js">']
        )
        for link in re.findall(r'<a href="([^"]+)"', page.text):
            place, _, anchor = link.partition("#")
            if place in ("", "/"):
                continue
            if not link.startswith("https://"):
                assert place.startswith("/docs/") and place.removeprefix("/docs/") in DOCS, (name, link)
                assert not anchor or anchor in anchors[place.removeprefix("/docs/")], (name, link)


def test_what_is_no_page_of_the_docs_is_not_shown(browser):
    for name in ("decisions", "..%2fREADME", "semantics.md", "nothing"):
        assert browser.get(f"/docs/{name}").status_code == 404


def test_a_chapter_knows_its_page_and_what_it_says():
    found = {(chapter.page, chapter.title): chapter for chapter in chapters(ROOT)}
    mrr = found["What the numbers mean", "MRR"]
    assert mrr.path == "/docs/semantics#mrr" and "subscription" in mrr.text
    assert found["Pages, reports, alerts", "Who is told"].path == "/docs/pages_reports_alerts#who-is-told"
