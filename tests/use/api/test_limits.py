"""Requests that are too large or too slow cost little and end."""

import socket
import time

from northstar.use.api import limits
from northstar.use.api.limits import BODY_BYTES, HEAD_BYTES, Limits, Protocol
from tests.use.api.conftest import serving_api


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


def test_what_is_too_slow_is_ended(built, monkeypatch):
    monkeypatch.setattr(Protocol, "seconds", 0.3)
    monkeypatch.setattr(Limits, "seconds", 0.3)
    assert limits.HEAD_SECONDS <= 15 and limits.BODY_SECONDS <= 15
    with serving_api(built) as address:
        # nothing, half a head, a whole request and then half a head
        assert send(address) == b""
        assert send(address, b"GET /v1/status HTTP/1.1\r\nHost:") == b""
        answered = send(address, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hea", wait=0.1)
        assert answered.startswith(b"HTTP/1.1 200") and answered.count(b"HTTP/1.1") == 1
        late = send(address, b'POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"sql"')
        assert late.startswith(b"HTTP/1.1 408") and b"took longer than" in late
