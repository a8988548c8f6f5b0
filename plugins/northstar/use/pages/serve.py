"""The address of the pages, the key that links to them have, and the gunicorn that serves them. Access is in door.py."""

import hashlib
import hmac
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.ports import remembered_port
from northstar.base.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WORKERS, THREADS = 2, 4
HEALTH = "/health"
KEY = "key"


def key(settings: Settings) -> str:
    """The key that links to the pages and the cookie have instead of the password: 64 hex digits, which change with the password."""
    return hmac.new(settings.secret("pages_password").encode(), b"northstar pages", hashlib.sha256).hexdigest()


def home_mark(settings: Settings) -> str:
    """The text by which the pages of a home answer at the health address."""
    return f"northstar pages {hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"


def host() -> str:
    """The address that the pages listen on: NORTHSTAR_PAGES_HOST, loopback by default."""
    return os.environ.get("NORTHSTAR_PAGES_HOST", "127.0.0.1")


def port(settings: Settings) -> int:
    """The port of the pages: NORTHSTAR_PAGES_PORT, or the one that was chosen when they were first started."""
    remembered = settings.home / "pages_port"
    # a new port is chosen only when pages are started: pages that are starting, or busy, do not answer although they run
    return remembered_port(remembered, "NORTHSTAR_PAGES_PORT", is_ours=True)


def _choose_port(settings: Settings) -> int:
    remembered = settings.home / "pages_port"
    return remembered_port(remembered, "NORTHSTAR_PAGES_PORT", is_ours=remembered.exists() and is_answering(settings))


def url(settings: Settings) -> str:
    """The address of the pages."""
    scheme = "https" if _certificate() else "http"
    return f"{scheme}://{'127.0.0.1' if host() in LOOPBACK else host()}:{port(settings)}"


def link(settings: Settings) -> str:
    """The address with the key, for those who may read the home's secrets. A browser that opens it is let in, and gets the cookie."""
    return f"{url(settings)}/?{KEY}={key(settings)}"


def cleartext_warning() -> str | None:
    """A warning where the password would cross a network unencrypted; None where it does not."""
    if host() in LOOPBACK or _certificate():
        return None
    return "passwords cross the network in clear: give NORTHSTAR_PAGES_CERT and NORTHSTAR_PAGES_KEY, or have only a proxy with TLS reach them"


def command(settings: Settings) -> list[str]:
    """The command of the gunicorn that serves the pages of a home. It chooses a new port where another process has taken the old one.

    Raises NorthstarError for a certificate without its key.
    """
    gunicorn = Path(sys.executable).parent / "gunicorn"
    tls = [f"--{name}={path}" for name, path in zip(("certfile", "keyfile"), _certificate(), strict=False)]
    return [
        str(gunicorn), "--bind", f"{host()}:{_choose_port(settings)}", "--workers", str(WORKERS), "--threads", str(THREADS),
        "--no-control-socket", "--name", "northstar pages", *tls, "northstar.use.pages.app:server",
    ]  # fmt: skip


def environment(settings: Settings) -> dict[str, str]:
    """The environment of that gunicorn."""
    return {**os.environ, "NORTHSTAR_HOME": str(settings.home), "PYTHONWARNINGS": "ignore"}


def is_answering(settings: Settings) -> bool:
    """Whether the pages of this home answer."""
    return _is_ours(settings, port(settings))


def _certificate() -> tuple[str, ...]:
    """The files of NORTHSTAR_PAGES_CERT and NORTHSTAR_PAGES_KEY, for TLS; nothing where there are none."""
    files = tuple(filter(None, (os.environ.get("NORTHSTAR_PAGES_CERT"), os.environ.get("NORTHSTAR_PAGES_KEY"))))
    if len(files) == 1:
        raise NorthstarError("TLS for the pages needs both NORTHSTAR_PAGES_CERT and NORTHSTAR_PAGES_KEY")
    return files


def _is_ours(settings: Settings, number: int) -> bool:
    try:
        # the certificate is not checked: these are our own pages on this machine, and they are known by their mark
        scheme, context = ("https", ssl._create_unverified_context()) if _certificate() else ("http", None)
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{number}{HEALTH}", timeout=2, context=context) as answer:
            text: str = answer.read().decode()
            return text == home_mark(settings)
    except (OSError, urllib.error.URLError):
        return False
