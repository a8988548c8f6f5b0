"""Every address of the pages, and every parameter that one of them reads, with texts that mean something to SQL, shells, files, HTML and spreadsheets."""

import json
import re
from base64 import urlsafe_b64encode
from itertools import count
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

import pytest
from vizro import Vizro

from northstar.use.customers import CHOICES
from northstar.use.notes import delete_note, list_notes
from northstar.use.pages import app, door
from northstar.use.pages.links import page_path
from northstar.use.why.background import Place
from tests.support import select, utc

HOSTILE = ("' or 1=1 --", "%s%(x)s%", "\0", "x" * 3_000, "1; drop table marts.metrics", "$(id)", "../../etc/passwd", "\u202e", "<script>alert(1)</script>", "\"onload='alert(1)'", "=cmd|' /C calc'!A0", "{{7*7}}", "-1", "9" * 40, "NaN", "2026-99-99", "infinity", "\U0001f600", "")  # fmt: skip
# what Dash serves by itself: files that it knows, and callbacks, which `door.limit_requests` guards
OF_DASH = ("/static/", "/assets/", "/_dash", "/_reload-hash", "/_favicon.ico")
NUMBER = Place("mrr", "month", utc("2026-02-01"), "all", "country", "US").path
MRR = {"metric": "mrr", "application": "all", "grain": "month", "segment": "country"}
METRICS = page_path("Metrics", **MRR, period=0)
# {address: what it is asked}
ASKED = {
    "/why/<metric>": NUMBER,
    "/why/<metric>/rows": NUMBER.replace("?", "/rows?"),
    "/why/marks": "/why/marks?metric=mrr&application=all&from=2026-02-01&until=2026-03-01",
    "/why/mart/<mart>": "/why/mart/churn_reasons?application=all",
    "/why/values": "/why/values?metric=mrr&application=all&grain=month&segment=country",
    "/take/<panel>.csv": f"/take/metrics-history.csv?{METRICS.partition('?')[2]}",
    "/take/<panel>.xlsx": f"/take/metrics-history.xlsx?{METRICS.partition('?')[2]}",
    "/search": "/search?q=mrr",
    "/docs/<name>": "/docs/glossary",
    "/customers": f"/customers?sort=mrr&order=up&page=1&text=a&least=1&most=9&tickets=1&failures=1&{'&'.join(f'{name}=web' for name in CHOICES)}",
    "/customers/<path:account_id>": "/customers/acct_00001",
    "/health": "/health",
    "/subscriptions/ways": "/subscriptions/ways",
    "/unsubscribe/<uuid:token>": f"/unsubscribe/{UUID(int=7)}",
    "/": "/?as_of=1",
    "/<path:path>": METRICS,
}


@pytest.fixture(scope="module")
def server(built):
    """The pages as gunicorn serves them, on a published home."""
    app.marts_of.cache_clear()
    with patch.dict("os.environ", {"NORTHSTAR_HOME": str(built.home)}):
        yield app.server
    for note in list_notes(built):
        delete_note(built, note["mark_id"])
    Vizro._reset()
    app.marts_of.cache_clear()


@pytest.fixture(scope="module")
def ask(server, built):
    """Asks for an address, each time as another sender, so that no limit of requests is met."""
    browser, senders = server.test_client(), count()

    def send(address, method="GET", **given):
        number = next(senders)
        sender = {"REMOTE_ADDR": f"10.{number // 40_000}.{number // 200 % 200}.{number % 200}"}
        return browser.open(address, method=method, headers=door.credentials(built), environ_overrides=sender, **given)

    return send


def encoded(value) -> str:
    """A value as Vizro writes it into an address."""
    return "b64_" + urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def is_harmless(answer, text: str) -> bool:
    """Whether an answer is one of those that there are, says nothing of how it was made, and holds a text that was sent as a text only."""
    # who takes back what is chosen is led to the same page without it; what may end a subscription shows no version to nobody
    if answer.status_code not in (200, 303, 308, 400, 403, 404):
        return False
    if not re.fullmatch("(/[^/\\\\].*|/)?", answer.headers.get("Location", "")):
        return False
    shown = answer.get_data(as_text=True) if "spreadsheetml" not in answer.content_type else ""
    if "Traceback" in shown or "psycopg" in shown or "syntax error" in shown.lower():
        return False
    if text == "{{7*7}}" and ">49<" in shown:
        return False
    if answer.status_code in (400, 404) and len(shown) > 20_000:
        return False
    if answer.content_type.startswith("text/html"):
        return "<script>alert(" not in shown and "\"onload='alert(" not in shown
    return not answer.content_type.startswith("text/csv") or not re.search('(^|,)"?=cmd', shown, re.MULTILINE)


def test_every_address_is_among_those_that_are_attacked(server, ask):
    rules = {rule.rule for rule in server.url_map.iter_rules() if not rule.rule.startswith(OF_DASH)}
    assert rules - {"/subscriptions"} == set(ASKED)
    for rule, address in ASKED.items():
        # no such customer or subscription
        assert ask(address).status_code == (404 if rule.startswith(("/customers/", "/unsubscribe")) else 200), address


@pytest.mark.parametrize("rule", ASKED)
def test_no_parameter_leads_anywhere_else(ask, built, rule):
    before = select(built, "select count(*) as n from marts.metrics")
    path, _, query = ASKED[rule].partition("?")
    chosen = dict(parse_qsl(query))
    attacks = [
        (text, f"{path}?{urlencode(chosen | {name: sent})}")
        for name in (*chosen, "as_of")
        for text in HOSTILE
        for sent in (text, encoded(text))
        if sent == text or chosen.get(name, "").startswith("b64_")
    ]
    attacks += [
        ("", f"{path}?{urlencode(chosen | {name: encoded(value)})}")
        for name in chosen
        if chosen[name].startswith("b64_")
        for value in (None, [], {}, ["mrr"], 10**30, True)
    ]
    attacks += [("", f"{path}?{urlencode(chosen)}&{name}=x") for name in chosen]
    if "<" in rule:
        place = path.split("/").index(next(part for part in path.split("/") if part not in rule.split("/")))
        parts = path.split("/")
        attacks += [
            (text, "/".join([*parts[:place], quote(text, safe="") or "-", *parts[place + 1 :]]) + f"?{query}")
            for text in HOSTILE
        ]
    wrong = [
        (answer.status_code, address) for text, address in attacks if not is_harmless(answer := ask(address), text)
    ]
    assert wrong == []
    assert select(built, "select count(*) as n from marts.metrics") == before


def test_no_form_and_no_body_leads_anywhere_else(ask):
    asked = {"name": "a view", "path": METRICS, "cadence": "daily", "kind": "mail", "target": "ann@example.org"}
    bodies = [asked | {name: text} for name in asked for text in HOSTILE]
    bodies += [asked | {name: value} for name in asked for value in (None, [], {"a": 1}, 10**30)]
    wrong = [body for body in bodies if not is_harmless(ask("/subscriptions", "POST", json=body), str(body))]
    wrong += [
        text
        for text in HOSTILE
        for name in ("text", "by", "at", "about")
        if not is_harmless(
            ask("/why/marks?metric=mrr", "POST", data={"text": "a note", "by": "Ana", "at": "2026-02-01", name: text}),
            text,
        )
    ]
    wrong += [
        body
        for body in (b"", b"null", b"[]", b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 5_000)
        if not is_harmless(ask("/subscriptions", "POST", data=body, content_type="application/json"), "")
    ]
    assert wrong == []
