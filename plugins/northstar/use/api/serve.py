"""Where the API is served, and the uvicorn that serves it."""

import logging
import os
import sys
from collections.abc import Callable

import httpx
import uvicorn

from northstar.base.errors import NorthstarError
from northstar.base.ports import remembered_port
from northstar.base.settings import Settings
from northstar.use.api.app import HEALTH, HEALTHY, build
from northstar.use.api.limits import HEAD_BYTES, Protocol

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# connections at once: each costs memory, and those that send nothing are ended after ten seconds
CONNECTIONS = 200
KEEP_ALIVE_SECONDS = 15
# how long requests that are being answered may take after the end was asked for
END_SECONDS = 25


def host() -> str:
    """The address that the API listens on: NORTHSTAR_METRICS_API_HOST, loopback by default."""
    return os.environ.get("NORTHSTAR_METRICS_API_HOST", "127.0.0.1")


def port(settings: Settings, is_ours: bool = True) -> int:
    """The port of the API: NORTHSTAR_METRICS_API_PORT, or the one that was chosen when it was first started. is_ours: what listens there is this API."""
    return remembered_port(settings.home / "api_port", "NORTHSTAR_METRICS_API_PORT", is_ours)


def url(settings: Settings) -> str:
    """The address of the API."""
    scheme = "https" if _certificate() else "http"
    return f"{scheme}://{'127.0.0.1' if host() in LOOPBACK else host()}:{port(settings)}"


def is_answering(settings: Settings) -> bool:
    """Whether an API of Northstar's answers on this home's port."""
    scheme, where = "https" if _certificate() else "http", host()
    try:
        # the certificate is for a name, and this asks an address; nothing is sent
        answer = httpx.get(
            f"{scheme}://{LOOPBACK[0] if where in (*LOOPBACK, '0.0.0.0') else where}:{port(settings)}{HEALTH}",
            timeout=5,
            verify=False,
        )
    except httpx.HTTPError:
        return False
    return answer.text == HEALTHY


def cleartext_warning() -> str | None:
    """A warning where tokens would cross a network unencrypted; None where they do not."""
    if host() in LOOPBACK or _certificate():
        return None
    return "tokens cross the network in clear: give NORTHSTAR_METRICS_API_CERT and NORTHSTAR_METRICS_API_KEY, or have only a proxy with TLS reach the API"


def serve(settings: Settings, say: Callable[[], None]) -> None:
    """Serve until the process is asked to end; `say` is called before. Raises NorthstarError for a certificate without its key."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("northstar.api").setLevel(logging.INFO)
    server = make_server(settings, port(settings, is_ours=False))
    say()
    server.run()


def make_server(settings: Settings, number: int) -> uvicorn.Server:
    """The server on a port, which `run` serves."""
    certificate = _certificate()
    config = uvicorn.Config(
        build(settings), host(), number, http=Protocol, ws="none", lifespan="on", access_log=False, log_config=None, server_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=HEAD_BYTES, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS, ssl_certfile=certificate and certificate[0], ssl_keyfile=certificate and certificate[1],
    )  # fmt: skip
    return uvicorn.Server(config)


def _certificate() -> tuple[str, str] | None:
    """The files of NORTHSTAR_METRICS_API_CERT and NORTHSTAR_METRICS_API_KEY, for TLS; None where there are none."""
    certificate, key = os.environ.get("NORTHSTAR_METRICS_API_CERT"), os.environ.get("NORTHSTAR_METRICS_API_KEY")
    if bool(certificate) != bool(key):
        raise NorthstarError("TLS for the API needs both NORTHSTAR_METRICS_API_CERT and NORTHSTAR_METRICS_API_KEY")
    return (certificate, key) if certificate and key else None
