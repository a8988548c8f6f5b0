"""Serving the pages with gunicorn: on loopback as they are, on any other address behind a password."""

import base64
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from flask import Flask, Response, request

from northstar.ports import remembered_port
from northstar.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
USER = "reader"
WORKERS, THREADS = 2, 4
HEALTH = "/health"


def host() -> str:
    """The address that the pages listen on: NORTHSTAR_PAGES_HOST, loopback by default."""
    return os.environ.get("NORTHSTAR_PAGES_HOST", "127.0.0.1")


def port(settings: Settings) -> int:
    """The port of the pages: NORTHSTAR_PAGES_PORT, or the one that was chosen when they were first started."""
    remembered = settings.home / "pages_port"
    # only who starts them chooses anew: pages that are starting, or busy, do not answer, and are there
    return remembered_port(remembered, "NORTHSTAR_PAGES_PORT", is_ours=True)


def _choose_port(settings: Settings) -> int:
    remembered = settings.home / "pages_port"
    return remembered_port(remembered, "NORTHSTAR_PAGES_PORT", is_ours=remembered.exists() and answers(settings))


def url(settings: Settings) -> str:
    """The address of the pages."""
    return f"http://{'127.0.0.1' if host() in LOOPBACK else host()}:{port(settings)}"


def command(settings: Settings) -> list[str]:
    """The gunicorn that serves the pages of a home; chooses their port where the one they had is taken by somebody else."""
    gunicorn = Path(sys.executable).parent / "gunicorn"
    return [
        str(gunicorn), "--bind", f"{host()}:{_choose_port(settings)}", "--workers", str(WORKERS), "--threads", str(THREADS),
        "--no-control-socket", "--name", "northstar pages", "northstar.dashboards.app:server",
    ]  # fmt: skip


def environment(settings: Settings) -> dict:
    """The environment of that gunicorn."""
    return {**os.environ, "NORTHSTAR_HOME": str(settings.home), "PYTHONWARNINGS": "ignore"}


def answers(settings: Settings) -> bool:
    """Whether the pages are there."""
    return _is_ours(settings, port(settings))


def credentials(settings: Settings) -> dict:
    """The header that a reader's browser sends."""
    pair = f"{USER}:{settings.secret('pages_password')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def guard(server: Flask, settings: Settings) -> None:
    """Ask for the password (user `reader`, secret `pages_password`) where the pages are open to more than this machine."""
    if host() in LOOPBACK:
        return
    expected = credentials(settings)["Authorization"]

    @server.before_request
    def _ask():
        if request.path == HEALTH or hmac.compare_digest(request.headers.get("Authorization", ""), expected):
            return None
        return Response("a password is needed", 401, {"WWW-Authenticate": 'Basic realm="Northstar"'})


def add_health(server: Flask, settings: Settings) -> None:
    """An address that says that this home's pages are there, and nothing else."""
    server.add_url_rule(HEALTH, "health", lambda: Response(_mark(settings), 200, {"Content-Type": "text/plain"}))


def _mark(settings: Settings) -> str:
    return f"northstar pages {hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"


def _is_ours(settings: Settings, number: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{number}{HEALTH}", timeout=2) as answer:
            return answer.read().decode() == _mark(settings)
    except (OSError, urllib.error.URLError):
        return False
