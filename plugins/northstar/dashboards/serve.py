"""Serving the pages with gunicorn: on loopback as they are, to anybody else behind a password, always with a browser's safeguards."""

import base64
import hashlib
import hmac
import logging
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, request

from northstar.errors import NorthstarError
from northstar.ports import remembered_port
from northstar.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
USER = "reader"
WORKERS, THREADS = 2, 4
HEALTH = "/health"
# nothing from elsewhere, in nobody's frame. Plotly and Dash set styles as they draw; what runs is known by its hash
POLICY = (
    "default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOG = logging.getLogger(__name__)


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
    scheme = "https" if _certificate() else "http"
    return f"{scheme}://{'127.0.0.1' if host() in LOOPBACK else host()}:{port(settings)}"


def command(settings: Settings) -> list[str]:
    """The gunicorn that serves the pages of a home; chooses their port where the one they had is taken by somebody else.

    Raises NorthstarError for a certificate without its key.
    """
    gunicorn = Path(sys.executable).parent / "gunicorn"
    tls = [f"--{name}={path}" for name, path in zip(("certfile", "keyfile"), _certificate(), strict=False)]
    return [
        str(gunicorn), "--bind", f"{host()}:{_choose_port(settings)}", "--workers", str(WORKERS), "--threads", str(THREADS),
        "--no-control-socket", "--name", "northstar pages", *tls, "northstar.dashboards.app:server",
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


def guard(server: Flask, settings: Settings, names: tuple[str, ...] = ()) -> None:
    """Ask everybody for the password (user `reader`, secret `pages_password`) but this machine itself, on loopback.

    There the browser has to ask for a name of this machine, or one of `names`: a page from elsewhere that has its own name lead
    to 127.0.0.1 would read ours otherwise.
    """
    expected = credentials(settings)["Authorization"].encode()
    known = {*LOOPBACK, *names}

    @server.before_request
    def _ask():
        if request.path == HEALTH:
            return None
        if host() in LOOPBACK and request.remote_addr in LOOPBACK:
            if _name(request.host) in known:
                return None
            LOG.warning("refused: a page on this machine was asked for as %r", request.host[:100])
            return Response("this is not its name", 421, {"Content-Type": "text/plain"})
        given = request.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(errors="replace"), expected):
            return None
        if given:
            LOG.warning("refused: a wrong password from %s", request.remote_addr)
        return Response("a password is needed", 401, {"WWW-Authenticate": 'Basic realm="Northstar"'})


def add_headers(server: Flask, scripts: Callable[[], list[str]]) -> None:
    """Have the browser run nothing that is not ours, in nobody's frame; scripts: gives the hashes of what stands in the pages themselves."""

    @server.after_request
    def _add(response):
        response.headers.update(HEADERS)
        # asked each time: Dash adds scripts of its own when the first page is drawn
        response.headers["Content-Security-Policy"] = POLICY.format(scripts=" ".join(scripts()))
        return response


def _name(host_header: str) -> str:
    """The host of a Host header, without its port and brackets."""
    if host_header.startswith("["):
        return host_header[1:].partition("]")[0]
    return host_header.partition(":")[0].lower()


def _certificate() -> tuple[str, ...]:
    """The files of NORTHSTAR_PAGES_CERT and NORTHSTAR_PAGES_KEY, for TLS; nothing where there are none."""
    found = tuple(filter(None, (os.environ.get("NORTHSTAR_PAGES_CERT"), os.environ.get("NORTHSTAR_PAGES_KEY"))))
    if len(found) == 1:
        raise NorthstarError("TLS for the pages wants both NORTHSTAR_PAGES_CERT and NORTHSTAR_PAGES_KEY")
    return found


def add_health(server: Flask, settings: Settings) -> None:
    """An address that says that this home's pages are there, and nothing else."""
    server.add_url_rule(HEALTH, "health", lambda: Response(_mark(settings), 200, {"Content-Type": "text/plain"}))


def _mark(settings: Settings) -> str:
    return f"northstar pages {hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"


def _is_ours(settings: Settings, number: int) -> bool:
    try:
        # our own pages, on this machine: what counts is the mark they show
        scheme, context = ("https", ssl._create_unverified_context()) if _certificate() else ("http", None)
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{number}{HEALTH}", timeout=2, context=context) as answer:
            return answer.read().decode() == _mark(settings)
    except (OSError, urllib.error.URLError):
        return False
