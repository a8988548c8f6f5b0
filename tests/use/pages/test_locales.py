"""The locale of a reader's browser, and that files have none."""

from flask import Flask

from northstar.base.formats import format_value
from northstar.base.locales import locale_name
from northstar.use.pages.locales import obey_locale


def test_each_request_is_answered_in_the_locale_that_its_browser_asks_for_and_files_in_none():
    server = Flask("pages")
    obey_locale(server, "fr")
    for path in ("/", "/take/executive-3.csv"):
        server.add_url_rule(path, path, lambda: format_value(1234.5, "money", "EUR"))
    browser = server.test_client()

    def said(languages: str | None, path: str = "/") -> str:
        answer = browser.get(path, headers={} if languages is None else {"Accept-Language": languages})
        assert "Accept-Language" in answer.vary
        # the thread answers others next
        assert locale_name() == ""
        return answer.text

    assert said("de-AT,de;q=0.9,en;q=0.8") == "1.234,50 EUR" and said("en;q=0.9, de;q=0.1") == "1,234.50 EUR"
    assert said(None) == said("zz, *") == "1\u202f234,50 EUR"
    assert said("de", "/take/executive-3.csv") == "1,234.50 EUR"
