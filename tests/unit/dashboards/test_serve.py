"""Where the pages are served: a port that stays, a password wherever others could reach them, a browser that trusts nobody else."""

import secrets
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from flask import Flask

from northstar import settings as settings_module
from northstar.dashboards import serve
from northstar.errors import NorthstarError


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
def ask(warehouse):
    """Asks pages that were started as the environment says, from an address; gives the answer."""

    def answer(headers=None, path="/", sender="127.0.0.1", name="127.0.0.1:8050"):
        server = Flask("pages")
        server.add_url_rule("/", "root", lambda: "numbers")
        serve.add_health(server, warehouse)
        serve.guard(server, warehouse, ("metrics.example.org",))
        serve.add_headers(server, lambda: ["'sha256-abc'"])
        return server.test_client().get(
            path, headers=headers, base_url=f"http://{name}", environ_overrides={"REMOTE_ADDR": sender}
        )

    return answer


WRONG = (
    {},
    {"Authorization": "Basic cmVhZGVyOg=="},
    {"Authorization": "Basic"},
    {"Authorization": "Bearer x"},
    {"Authorization": "Basic \u00e4\u00f6\u00fc"},
    {"Authorization": "Basic " + "A" * 8000},
)


def test_on_loopback_this_machine_is_not_asked(ask, monkeypatch):
    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    assert ask().status_code == 200 and ask(name="localhost:8050").status_code == 200
    assert ask(name="[::1]:8050").status_code == 200 and ask(name="metrics.example.org").status_code == 200


@pytest.mark.parametrize("headers", WRONG)
def test_elsewhere_everybody_is_asked(ask, warehouse, monkeypatch, headers):
    monkeypatch.setenv("NORTHSTAR_PAGES_HOST", "0.0.0.0")
    for sender in ("127.0.0.1", "10.0.0.7"):
        refused = ask(headers, sender=sender)
        assert refused.status_code == 401 and "Basic" in refused.headers["WWW-Authenticate"]
        assert b"numbers" not in refused.data
        assert ask(serve.credentials(warehouse), sender=sender).status_code == 200
    assert ask(headers, path="/health").status_code == 200


@pytest.mark.parametrize("headers", WRONG[:2])
def test_whoever_is_not_this_machine_is_asked_whatever_the_pages_believe_to_listen_on(
    ask, warehouse, monkeypatch, headers
):
    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    assert ask(headers, sender="10.0.0.7").status_code == 401
    assert ask(serve.credentials(warehouse), sender="10.0.0.7").status_code == 200


@pytest.mark.parametrize(
    "name", ["attacker.example.org", "127.0.0.1.attacker.example.org", "localhost.attacker.org:8050", ""]
)
def test_on_loopback_a_foreign_name_that_leads_here_gets_nothing(ask, monkeypatch, name):
    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    assert ask({"Host": name}).status_code == 421


def test_every_answer_tells_the_browser_what_it_must_not_do(ask, monkeypatch):
    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    for answer in (ask(), ask(path="/nothing"), ask(sender="10.0.0.7")):
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
    with pytest.raises(NorthstarError, match="wants both"):
        serve.command(warehouse)
    monkeypatch.setenv("NORTHSTAR_PAGES_KEY", str(key))
    assert {f"--certfile={certificate}", f"--keyfile={key}"} <= set(serve.command(warehouse))
    assert serve.url(warehouse).startswith("https://")

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(serve._mark(warehouse).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Health)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert serve._is_ours(warehouse, server.server_port)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"https://127.0.0.1:{server.server_port}/", timeout=2)
    finally:
        server.shutdown()
