"""A real server on loopback over the published small company, and clients with tokens."""

import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from northstar.use.answers.reading import SCOPES
from northstar.use.api.access import FILE, MOST_REQUESTS_A_MINUTE, Access
from northstar.use.api.serve import make_server


@contextmanager
def serving_api(settings):
    """The API of a home for as long as the context lasts; gives the server."""
    server = make_server(settings, 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


def address_of(server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def address(built):
    with serving_api(built) as server:
        yield address_of(server)
    (built.home / FILE).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def access(built):
    return Access(built)


@pytest.fixture(scope="module")
def token(access):
    """A token with every scope."""
    return access.add_token("everything", SCOPES, per_minute=MOST_REQUESTS_A_MINUTE)


@pytest.fixture(scope="module")
def client(address, token):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(address):
    """A client without a token."""
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client
