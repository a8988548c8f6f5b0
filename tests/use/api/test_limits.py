"""Requests that are too large or too slow cost little and end."""

import socket
import time

from northstar.use.api import limits
from northstar.use.api.limits import BODY_BYTES, HEAD_BYTES, Limits, Protocol
from tests.use.api.conftest import address_of, serving_api


def send(address, *parts, wait=0.0) -> bytes:
    """What a server answers to bytes until it closes the connection, or for a minute."""
    host, _, port = address.rpartition("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def test_what_is_too_large_is_refused(address, client):
    large = client.post("/v1/query", content=b"x" * (BODY_BYTES + 1))
    assert large.status_code == 413 and large.json()["reason"] == "too_much"

    def pieces():
        for _ in range(400):
            yield b"x" * 1024

    try:
        assert client.post("/v1/query", content=pieces()).status_code == 413
    except Exception as exc:
        # the server answers before the whole body is sent
        assert type(exc).__name__ in ("WriteError", "ReadError", "RemoteProtocolError")
    head = (
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: " + b"x" * (HEAD_BYTES + 10) + b"\r\n\r\n"
    )
    assert send(address, head).startswith(b"HTTP/1.1 4")
    for odd in (
        b"\0\1\2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: close\r\n\r\n0\r\n\r\n",
    ):
        assert send(address, odd)[:10] in (b"HTTP/1.1 4", b"")
    assert client.get("/v1/status").status_code == 200


def test_a_head_that_does_not_come_is_not_waited_for(built, access, monkeypatch):
    monkeypatch.setattr(Protocol, "seconds", 0.3)
    assert limits.HEAD_SECONDS <= 15
    with serving_api(built) as server:
        address = address_of(server)
        # nothing, half a head, a whole request and then half a head
        assert send(address) == b""
        assert send(address, b"GET /v1/status HTTP/1.1\r\nHost:") == b""
        assert send(address, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hea", wait=0.1).count(b"HTTP/1.1") <= 1
        # a client that asks for much and reads nothing of it
        ended = []
        lose = Protocol.connection_lost
        monkeypatch.setattr(Protocol, "connection_lost", lambda self, exc: (lose(self, exc), ended.append(exc)))
        token = access.add_token("reads nothing", ["sql"])
        head = f"GET /v1/query?sql=select+repeat('x',10000000) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        host, _, port = address.rpartition("/")[2].partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            deadline = time.monotonic() + 60
            while not ended:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_a_body_that_does_not_come_is_refused(built, monkeypatch):
    monkeypatch.setattr(Limits, "seconds", 0.3)
    assert limits.BODY_SECONDS <= 15
    with serving_api(built) as server:
        late = send(address_of(server), b'POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"sql"')
        assert late.startswith(b"HTTP/1.1 408") and b"took longer than" in late
