"""Where the pages are served: a port that stays, and a password wherever others could reach them."""

import socket

from flask import Flask

from northstar.dashboards import serve


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


def test_on_loopback_nobody_is_asked_and_elsewhere_everybody_is(warehouse, monkeypatch):
    def answer(headers=None, path="/"):
        server = Flask("pages")
        server.add_url_rule("/", "root", lambda: "numbers")
        serve.add_health(server, warehouse)
        serve.guard(server, warehouse)
        return server.test_client().get(path, headers=headers).status_code

    monkeypatch.delenv("NORTHSTAR_PAGES_HOST", raising=False)
    assert answer() == 200
    monkeypatch.setenv("NORTHSTAR_PAGES_HOST", "0.0.0.0")
    assert answer() == 401 and answer({"Authorization": "Basic cmVhZGVyOg=="}) == 401
    assert answer(serve.credentials(warehouse)) == 200 and answer(path="/health") == 200
