"""Where the pages are served: a port that stays, a password wherever others could reach them, a browser that trusts nobody else."""

import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import pytest
from flask import Flask, request

from northstar.base import settings as settings_module
from northstar.base.errors import NorthstarError
from northstar.use.pages import door, serve
from tests.support import serving


def test_the_port_stays_while_the_pages_start_and_moves_when_it_is_somebody_elses(warehouse, monkeypatch):
    monkeypatch.delenv("NORTHSTAR_PAGES_PORT", raising=False)
    first = serve.command(warehouse)[2]
    number = int(first.rsplit(":", 1)[1])
    with socket.socket() as starting:
        # gunicorn listens before it answers
        starting.bind(("127.0.0.1", number))
        starting.listen()
        assert serve.port(warehouse) == number and str(number) in serve.url(warehouse)
        starting.settimeout(0)
        assert serve.command(warehouse)[2] != first
        assert serve.port(warehouse) != number


@pytest.fixture
def browser(warehouse):
    """A client of pages whose callbacks are one, `out.children`, which fails; it keeps cookies."""
    server = Flask("pages")
    server.add_url_rule("/", "root", lambda: "numbers")
    server.add_url_rule(door.CALLBACK, "callback", lambda: request.get_json()["inputs"][0]["value"], methods=["POST"])
    door.add_health(server, warehouse)
    door.require_key(server, warehouse)
    door.limit_requests(server, lambda: {"out.children": None})
    door.add_headers(server, lambda: ["'sha256-abc'"])
    return server.test_client()


def ask(browser, headers=None, path="/", sender="127.0.0.1", name="127.0.0.1:8050", **given):
    return browser.get(
        path, headers=headers, base_url=f"http://{name}", environ_overrides={"REMOTE_ADDR": sender}, **given
    )


WRONG = (
    {"Authorization": "Basic cmVhZGVyOg=="},
    {"Authorization": "Basic"},
    {"Authorization": "Bearer x"},
    {"Authorization": "Basic \u00e4\u00f6\u00fc"},
    {"Authorization": "Basic " + "A" * 8000},
)
# as a proxy on this machine asks, with and without the headers that tell of whom
PROXIED = (
    {"X-Forwarded-For": "203.0.113.7"},
    {"Forwarded": "for=203.0.113.7"},
    {"Via": "1.1 proxy"},
    {"Connection": "close"},
    {"Cookie": "northstar_0=0"},
)


@pytest.mark.parametrize("headers", [{}, *WRONG, *PROXIED])
@pytest.mark.parametrize("sender", ["127.0.0.1", "::1", "10.0.0.7"])
def test_everybody_is_asked(browser, warehouse, headers, sender):
    for name in ("127.0.0.1:8050", "localhost:8050", "metrics.example.org", "attacker.example.org"):
        refused = ask(browser, headers, sender=sender, name=name)
        assert refused.status_code == 401 and "Basic" in refused.headers["WWW-Authenticate"]
        assert b"numbers" not in refused.data and "Set-Cookie" not in refused.headers
    assert ask(browser, headers, path="/health", sender=sender).status_code == 200
    assert ask(browser, door.credentials(warehouse), sender=sender).status_code == 200


def test_a_link_lets_in_without_staying_in_the_address_and_its_browser_is_remembered(browser, warehouse):
    link = urlsplit(serve.link(warehouse))
    let_in = ask(browser, path=f"/?{link.query}&metric=mrr&metric=arr")
    assert let_in.status_code == 303 and let_in.headers["Location"] == "/?metric=mrr&metric=arr"
    cookie = let_in.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    assert ask(browser).data == b"numbers"
    # also who gave the password need not give it again
    browser.delete_cookie(cookie.partition("=")[0], domain="127.0.0.1")
    assert ask(browser).status_code == 401
    assert ask(browser, door.credentials(warehouse)).status_code == 200
    assert ask(browser).status_code == 200


@pytest.mark.parametrize("path", ["/?key=", "/?key=0", "/?key=" + "0" * 64, "//elsewhere.example.org/?key=1"])
def test_a_wrong_key_is_no_key(browser, path):
    assert ask(browser, path=path).status_code == 401


def test_a_link_never_leads_elsewhere(browser, warehouse):
    elsewhere = {"PATH_INFO": "//elsewhere.example.org/"}
    entered = browser.get("/", query_string=urlsplit(serve.link(warehouse)).query, environ_overrides=elsewhere)
    assert entered.status_code == 303 and entered.headers["Location"] == "/elsewhere.example.org/"


def test_over_tls_the_cookie_stays_there(browser, warehouse):
    entered = ask(browser, door.credentials(warehouse) | {"X-Forwarded-Proto": "https"})
    assert "Secure" in entered.headers["Set-Cookie"]


def test_whoever_guesses_has_to_wait_and_whoever_was_let_in_has_not(browser, warehouse, caplog):
    ask(browser, door.credentials(warehouse), sender="10.0.0.9")
    stranger = browser.application.test_client()
    found = [ask(stranger, WRONG[0], sender="10.0.0.7").status_code for _ in range(60)]
    assert found == [401] * 10 + [429] * 50
    # nor is the right one taken now, or a guesser would know it by the answer
    assert ask(stranger, door.credentials(warehouse), sender="10.0.0.7").status_code == 429
    assert ask(stranger, door.credentials(warehouse), sender="10.0.0.8").status_code == 200
    assert ask(browser, sender="10.0.0.7").status_code == 200
    assert len([r for r in caplog.records if "wrong password" in r.message]) == 10


def test_an_allowance_comes_back_and_remembers_a_bounded_number_of_names():
    now = [0.0]
    allowed = door.Allowance(2, lambda: now[0])
    assert [allowed.take("a") for _ in range(3)] == [True, True, False] and not allowed.is_left("a")
    now[0] = 61.0
    assert allowed.is_left("a") and allowed.take("a")
    for number in range(5_000):
        allowed.take(str(number))
    assert len(allowed._taken) == allowed.NAMES


def callback(browser, warehouse, body) -> int:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return browser.post(
        door.CALLBACK, data=sent, headers=door.credentials(warehouse), content_type="application/json"
    ).status_code


FORGED = (
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 200_000,
    {"output": "nothing.children", "inputs": []},
    {"output": {"id": 1}, "inputs": []},
    {"output": ["out.children"], "inputs": []},
    {"output": "out.children", "inputs": 7},
    {"output": "out.children", "inputs": [7]},
    {"output": "out.children", "inputs": [{"value": 7}]},
    {"output": "out.children", "inputs": [], "state": {"a": 1}},
)


@pytest.mark.parametrize("body", FORGED, ids=range(len(FORGED)))
def test_what_no_page_asks_is_refused_without_a_line_in_the_log(browser, warehouse, body, caplog):
    assert callback(browser, warehouse, body) == 400
    assert not caplog.records


def test_what_is_too_large_is_refused(browser, warehouse, caplog):
    assert callback(browser, warehouse, {"output": "out.children", "inputs": [{"id": "x", "value": "A" * 4_000_000}]}) == 413  # fmt: skip
    assert not caplog.records


def test_a_failure_is_told_once_a_minute_however_often_it_is_asked_for(browser, warehouse, caplog):
    for _ in range(50):
        assert callback(browser, warehouse, {"output": "out.children", "inputs": [{"id": "x"}]}) == 500
    assert [r.exc_info[0] for r in caplog.records] == [KeyError]


def test_who_listens_to_a_network_in_clear_is_told(monkeypatch):
    monkeypatch.delenv("NORTHSTAR_PAGES_CERT", raising=False)
    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    assert serve.cleartext_warning() is None
    monkeypatch.setenv("NORTHSTAR_PAGES_HOST", "0.0.0.0")
    assert "in clear" in serve.cleartext_warning()


def test_every_answer_tells_the_browser_what_it_must_not_do(browser, warehouse):
    password = door.credentials(warehouse)
    for answer in (ask(browser, password), ask(browser, path="/nothing"), ask(browser, WRONG[0], sender="10.0.0.7")):
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'" and policy["script-src"] == "'self' 'sha256-abc'"
        assert policy["frame-ancestors"] == policy["object-src"] == "'none'"


def test_processes_that_want_a_new_password_at_once_get_the_same(tmp_path, monkeypatch):
    def slowly(size):
        time.sleep(0.02)
        return secrets.token_hex(size)

    monkeypatch.setattr(settings_module.token, "token_urlsafe", slowly)
    home = settings_module.load_settings(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: home.secret("pages_password"), range(4)))
    assert len(set(found)) == 1 and len(found[0]) >= 32
    assert home.secrets_file.stat().st_mode & 0o777 == 0o600


def test_with_a_certificate_the_pages_speak_tls(tmp_path, warehouse, monkeypatch):
    certificate, key = tmp_path / "pages.crt", tmp_path / "pages.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("NORTHSTAR_PAGES_CERT", str(certificate))
    with pytest.raises(NorthstarError, match="needs both"):
        serve.command(warehouse)
    monkeypatch.setenv("NORTHSTAR_PAGES_KEY", str(key))
    assert {f"--certfile={certificate}", f"--keyfile={key}"} <= set(serve.command(warehouse))
    assert serve.url(warehouse).startswith("https://")

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(serve.home_mark(warehouse).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Health)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        assert serve._is_ours(warehouse, port)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"https://127.0.0.1:{port}/", timeout=2)
