"""Views that readers have sent to themselves: begun from the pages, sent once for each occasion, ended by one click."""

import io
import re
from datetime import timedelta

import pytest
import python_calamine
from flask import Flask

from northstar.cli.main import main
from northstar.use.marts import Marts
from northstar.use.pages import door
from northstar.use.pages.links import page_path
from northstar.use.pages.subscribing import add_subscribing
from northstar.use.pages.subscriptions import list_subscriptions, send_due
from northstar.warehouse import db
from tests.support import select, utc
from tests.use import test_reports

NOTIFY = """
mail: {connection: smtp_test, from: northstar@example.org}
pages: https://northstar.example.org
subscribers: [example.org]
routes:
  everyone: [{slack: slack_test}, {webhook: pager_test}]
"""
MORNING = utc("2026-03-01") + timedelta(hours=7)


# a mail server and a receiver of posts
inbox = test_reports.inbox


@pytest.fixture
def settings(built, inbox):
    (built.config / "notify.yml").write_text(NOTIFY)
    yield built
    with db.connect(built, "publisher") as connection:
        connection.execute("delete from audit.subscriptions")
        connection.execute("delete from audit.outbox where what = 'subscription'")


@pytest.fixture
def browser(settings):
    server, marts = Flask("subscriptions"), Marts(settings)
    door.require_key(server, settings)
    add_subscribing(server, settings, lambda: marts)
    return server.test_client()


def begin(browser, settings, **changed):
    asked = {
        "name": "Web <revenue>", "path": page_path("Revenue", application="web", grain="week"), "cadence": "daily", "kind": "mail", "target": "ann@example.org",
    }  # fmt: skip
    return browser.post("/subscriptions", json=asked | changed, headers=door.credentials(settings))


def test_a_view_is_sent_once_for_each_occasion_and_ended_by_one_click(browser, settings, inbox):
    assert browser.get("/subscriptions/ways", headers=door.credentials(settings)).get_json() == {
        "domains": ["example.org"], "slack": ["slack_test"], "webhook": ["pager_test"],
    }  # fmt: skip
    for _ in range(2):
        # the same once more is the same
        assert begin(browser, settings).status_code == 201
    assert begin(browser, settings, cadence="change", kind="slack", target="slack_test").status_code == 201
    assert [(s["page"], s["cadence"], s["target"]) for s in list_subscriptions(settings)] == [
        ("revenue", "daily", "ann@example.org"),
        ("revenue", "change", "slack_test"),
    ]
    assert send_due(settings, MORNING - timedelta(hours=1)) == ["slack slack_test"]
    assert send_due(settings, MORNING) == ["mail ann@example.org"]
    assert send_due(settings, MORNING) == send_due(settings, MORNING + timedelta(hours=5)) == []
    ((recipients, mail),) = inbox.mails
    assert recipients == ["ann@example.org"] and mail["Subject"].startswith(
        "Web <revenue>: version 1, data up to 2026-03-01"
    )
    (workbook,) = mail.iter_attachments()
    assert workbook.get_filename() == "revenue_v1.xlsx" and workbook.get_content_subtype().endswith(
        "spreadsheetml.sheet"
    )
    content, text = workbook.get_content(), mail.get_body(("plain",)).get_content()
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    assert {"Revenue", "MRR", "MRR bridge by plan", "About"} <= set(book.sheet_names) and len(book.sheet_names) == 13
    values = [row for row in book.get_sheet_by_name("MRR").to_python()[1:] if row[1] == "web" and row[2] == "week"]
    published = select(settings, "select value from metric_values where metric_id = 'mrr' and grain = 'week' and application = 'web' and segment = '' order by period_start")  # fmt: skip
    assert [row[6] for row in values if row[10] != ""][: len(published)] == [
        float(r["value"]) if r["value"] is not None else "" for r in published
    ]
    assert (
        f"https://northstar.example.org{page_path('Revenue', application='web', period=12, grain='week', segment='in total')}"
        in text
    )
    link = re.search(r"https://northstar.example.org(/unsubscribe/[0-9a-f-]{36})", text)[1]
    assert mail["List-Unsubscribe"] == f"<https://northstar.example.org{link}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    # a scanner of mail opens the link, without a password; nothing changes
    stranger = browser.application.test_client()
    opened = stranger.get(link)
    assert opened.status_code == 200 and "Web &lt;revenue&gt;" in opened.text and len(list_subscriptions(settings)) == 2
    assert "ann@example.org" not in opened.text and "Set-Cookie" not in opened.headers
    assert stranger.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert [s["cadence"] for s in list_subscriptions(settings)] == ["change"]
    assert send_due(settings, MORNING + timedelta(days=1)) == []
    assert stranger.post("/unsubscribe/00000000-0000-4000-8000-000000000000").status_code == 404
    assert stranger.get("/unsubscribe/nothing").status_code == 404


def test_a_view_is_sent_when_its_values_are_others(browser, settings, inbox):
    begin(browser, settings, cadence="change", kind="webhook", target="pager_test")
    assert send_due(settings, MORNING) == ["webhook pager_test"] and send_due(settings, MORNING) == []
    event = inbox.posted[0][1]
    assert (event["routing_key"], event["payload"]["severity"]) == ("key", "info") and "unsubscribe" in event["links"][
        1
    ]["href"]
    # as after a version with other values
    with db.connect(settings, "publisher") as connection:
        connection.execute("update audit.subscriptions set digest = 'of other values'")
        connection.execute("update audit.outbox set instance = 'version 0' where what = 'subscription'")
    assert send_due(settings, MORNING) == ["webhook pager_test"]


def test_what_is_not_allowed_is_not_begun_and_not_sent(browser, settings, inbox):
    for changed in (
        {"target": "ann@elsewhere.org"}, {"target": "ann@example.org, eve@elsewhere.org"}, {"target": "a b@example.org"}, {"target": "@example.org"},
        {"kind": "slack", "target": "smtp_test"}, {"kind": "carrier pigeon"}, {"cadence": "hourly"}, {"name": " "}, {"path": "/alerts"}, {"path": "//elsewhere.org/revenue/x"},
        {"path": "/revenue?revenue-application=nobody"}, {"path": "/nothing"},
    ):  # fmt: skip
        assert begin(browser, settings, **changed).status_code == 400, changed
    assert list_subscriptions(settings) == []
    # another site's form, or nobody
    assert browser.post("/subscriptions", data={"name": "x"}, headers=door.credentials(settings)).status_code == 400
    assert browser.application.test_client().post("/subscriptions", json={}).status_code == 401
    begin(browser, settings)
    (settings.config / "notify.yml").write_text(NOTIFY.replace("[example.org]", "[]"))
    told = []
    assert send_due(settings, MORNING, told.append) == inbox.mails == [] and "allows no subscriptions" in told[0]


def test_an_administrator_ends_the_subscription_of_another(browser, settings, inbox, capsys):
    begin(browser, settings, name="Ann's")
    begin(browser, settings, name="Eve's", target="eve@example.org")
    number = next(row["subscription_id"] for row in list_subscriptions(settings) if row["name"] == "Eve's")
    home = ["--home", str(settings.home)]
    assert main(["subscriptions", *home]) == 0 and "Eve's" in capsys.readouterr().out
    assert main(["subscriptions", "end", str(number), *home]) == 0 and "ended: Eve's" in capsys.readouterr().out
    assert [row["name"] for row in list_subscriptions(settings)] == ["Ann's"]
    assert (
        main(["subscriptions", "end", str(number), *home]) == 1
        and "there is no subscription" in capsys.readouterr().err
    )
    assert main(["subscriptions", "end", *home]) == 1 and "which one?" in capsys.readouterr().err
    send_due(settings, MORNING)
    assert [to for to, _ in inbox.mails] == [["ann@example.org"]]
