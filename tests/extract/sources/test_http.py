"""The HTTP client against a server that does what real ones do on a bad day."""

import base64
import email.utils
import json
import resource
import socket
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from northstar.base.errors import NorthstarError, SourceDown
from northstar.extract.sources import http
from northstar.extract.sources.http import HttpClient, Refused
from tests.support import serving

SECRET = "sk_canary_4242"


@pytest.fixture
def server():
    """A server on loopback that answers each request with the next of `answers`: (status, headers, body, cut to bytes)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.seen.append((self.path, self.headers.get("Authorization")))
            status, headers, body, cut = self.answers.pop(0) if self.answers else (200, {}, b'{"ok": true}', None)
            # a Date of its own says what the server takes for the present
            (self.send_response_only if "Date" in headers else self.send_response)(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
            self.close_connection = True

        def log_message(self, *_):
            pass

    Handler.answers, Handler.seen = [], []
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        Handler.address = f"http://127.0.0.1:{port}"
        yield Handler


@pytest.fixture
def waited():
    return []


@pytest.fixture
def client(server, waited):
    return HttpClient(server.address, {"Authorization": f"Bearer {SECRET}"}, attempts=4, timeout=2, wait=waited.append)


def answer(status=200, body=b'{"ok": true}', cut=None, **headers):
    return status, {k.replace("_", "-"): v for k, v in headers.items()}, body, cut


@pytest.mark.parametrize(
    "bad",
    [answer(500), answer(503), answer(429), answer(200, b"<html>maintenance</html>"), answer(200, b'{"ok": tr', None),
     answer(200, b'{"ok": true}', 5)],
    ids=["500", "503", "429", "html", "malformed", "half"],
)  # fmt: skip
def test_what_may_pass_is_tried_again(server, client, waited, bad):
    server.answers[:] = [bad, bad]
    assert client.get("things") == {"ok": True}
    assert len(waited) == 2 and 0 < waited[0] <= 0.5 < waited[1] <= 1


def test_a_damaged_answer_is_asked_for_again(server, client, waited):
    server.answers = [(200, {"Content-Encoding": "gzip"}, b'{"ok": true}', None)]
    assert client.get("things") == {"ok": True} and len(server.seen) == 2


def test_retry_after_is_heeded_in_seconds_and_as_a_date(server, client, waited):
    soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.answers[:] = [answer(429, Retry_After="7"), answer(503, Retry_After=soon)]
    assert client.get("things") == {"ok": True}
    assert waited[0] == 7 and 80 < waited[1] <= 90


def test_a_system_that_asks_for_more_patience_than_a_run_has_is_down_at_once(server, client, waited):
    server.answers[:] = [answer(503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")]
    with pytest.raises(SourceDown, match=r"503 and asks to wait for [\d,]+ s; the next run") as failure:
        client.get("things")
    assert waited == [] and failure.value.wait_seconds > 300


def test_a_refusal_that_is_a_rate_limit_is_waited_for(server, client, waited):
    soon = str(int(time.time()) + 30)
    server.answers[:] = [answer(403, x_ratelimit_remaining="0", x_ratelimit_reset=soon), answer(403, Retry_After="3")]
    assert client.get("things") == {"ok": True}
    assert 25 < waited[0] <= 30 and waited[1] == 3
    server.answers[:] = [answer(403, x_ratelimit_remaining="41", x_ratelimit_reset=soon)]
    with pytest.raises(Refused):
        client.get("things")


def test_pages_follow_the_link_header_and_do_not_run_in_circles(server, client):
    def page(number, rel="next", more=""):
        return answer(
            200, f"[{number}]".encode(), Link=f'<{server.address}/things?page={number + 1}>; rel="{rel}"{more}'
        )

    server.answers[:] = [page(1), page(2), page(3, more='; results="false"')]
    assert list(client.pages("things", {"size": 1})) == [[1], [2], [3]]
    assert [path for path, _ in server.seen] == ["/things?size=1", "/things?page=2", "/things?page=3"]
    server.answers[:] = [page(1), page(1), page(1)]
    with pytest.raises(SourceDown, match="repeat"):
        list(client.pages("things"))


def test_a_refusal_is_not_tried_again_and_says_what_the_system_says(server, client, waited):
    server.answers[:] = [answer(404, json.dumps({"error": {"message": "No such customer: cus_1"}}).encode())]
    with pytest.raises(Refused, match=r"http://127\.0\.0\.1:\d+/things: it answered 404: No such customer: cus_1"):
        client.get("things", params={"api_key": SECRET})
    assert waited == []


def test_a_system_that_is_down_opens_the_circuit(server, client, waited):
    server.answers[:] = [answer(500)] * 10
    with pytest.raises(SourceDown, match="it answered 500, 4 times"):
        client.get("things")
    asked = len(server.seen)
    with pytest.raises(SourceDown):
        client.get("others")
    assert len(server.seen) == asked == 4


def test_a_system_that_never_answers_is_down(waited):
    client = HttpClient("http://127.0.0.1:9", attempts=3, timeout=0.2, wait=waited.append)
    with pytest.raises(SourceDown, match="connection failed"):
        client.get("things")
    assert len(waited) == 2


def test_a_system_that_takes_the_question_and_says_nothing_is_down(waited):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = HttpClient(f"http://127.0.0.1:{mute.getsockname()[1]}", attempts=2, timeout=0.1, wait=waited.append)
        with pytest.raises(SourceDown, match="it did not answer in time, 2 times; the next run goes on"):
            client.get("things")
    assert len(waited) == 1


def test_an_address_without_http_at_its_end_is_told_at_once(server, waited):
    address = server.address.replace("http:", "https:")
    with pytest.raises(NorthstarError, match="does not speak https; an address that ends in /http"):
        HttpClient(address, {}, wait=waited.append).get("me")
    assert waited == []


def test_a_storm_of_429_is_waited_out_or_ends_the_run(server, client, waited):
    storm = [answer(429, Retry_After="2")]
    server.answers[:] = storm * 3
    assert client.get("things") == {"ok": True} and waited == [2, 2, 2]
    server.answers[:] = storm * 10
    with pytest.raises(SourceDown, match="it answered 429, 4 times"):
        client.get("things")


def test_the_present_is_the_systems(server, client):
    early = email.utils.format_datetime(datetime.now(UTC) - timedelta(hours=3), usegmt=True)
    server.answers[:] = [answer(Date=early)]
    assert 3 * 3600 - 5 < time.time() - client.now("clock") < 3 * 3600 + 5
    # what was asked tells it too
    assert time.time() - client.now("clock") > 3 * 3600 - 5 and len(server.seen) == 1
    server.answers[:] = [answer(Date="yesterday")]
    client.get("things")
    assert abs(time.time() - client.now("clock")) < 5


def test_a_token_that_expires_in_the_middle_is_renewed_once(server, waited):
    tokens = iter(["old", "new", "newer"])
    client = HttpClient(server.address, lambda: {"Authorization": next(tokens)}, attempts=3, wait=waited.append)
    assert client.get("things") == {"ok": True}
    server.answers[:] = [answer(401)]
    assert client.get("things") == {"ok": True}
    assert [token for _, token in server.seen] == ["old", "old", "new"]
    server.answers[:] = [answer(401), answer(401)]
    with pytest.raises(Refused, match="401"):
        client.get("things")


def test_the_pace_is_kept(server, waited):
    client = HttpClient(server.address, per_second=4, wait=waited.append)
    for _ in range(3):
        client.get("things")
    assert len(waited) == 2 and all(0 < w <= 0.5 for w in waited)


def test_the_secret_goes_to_no_other_host(server, client):
    with pytest.raises(NorthstarError, match="next page on another host"):
        client.get("http://example.org/next?page=2")
    server.answers[:] = [answer(302, Location="http://example.org/")]
    with pytest.raises(Refused, match="302"):
        client.get("things")


def test_the_secret_is_in_no_message_and_no_log(server, client, caplog):
    caplog.set_level("DEBUG")
    server.answers[:] = [answer(500)] * 4
    with pytest.raises(SourceDown) as failure:
        client.get("things", params={"token": SECRET})
    assert SECRET not in str(failure.value) + repr(failure.value) + "".join(r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    "header",
    [f"Bearer {SECRET}", "Basic " + base64.b64encode(f"me@example.org:{SECRET}".encode()).decode()],
    ids=["bearer", "basic"],
)
def test_a_system_that_repeats_the_secret_is_not_quoted_with_it(server, header):
    client = HttpClient(server.address, {"Authorization": header})
    server.answers[:] = [answer(401, json.dumps({"error": f"Invalid key {SECRET} ({header})"}).encode())] * 2
    with pytest.raises(Refused, match=r"401: Invalid key \*\*\*") as failure:
        client.get("things")
    assert SECRET not in str(failure.value) and header.split()[1] not in str(failure.value)


@pytest.mark.slow
def test_a_bomb_is_put_down_while_it_unfolds(server, client):
    packer, parts = zlib.compressobj(9, zlib.DEFLATED, 31), []
    for _ in range(300):
        parts.append(packer.compress(bytes(2**20)))
    server.answers[:] = [(200, {"Content-Encoding": "gzip"}, b"".join([*parts, packer.flush()]), None)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceDown, match="its answer is larger than 64 MB"):
        client.get("things")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 280_000
    # and is not asked for again
    assert len(server.seen) == 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "beginning", [HEAD + b"Content-Length: 100000\r\n\r\n", HEAD + b"X-Long: "], ids=["body", "headers"]
)
@pytest.mark.slow
def test_an_answer_that_drips_holds_nobody(monkeypatch, beginning):
    monkeypatch.setattr(http, "ANSWER_SECONDS", 1)
    stop = threading.Event()

    def drip():
        connection, _ = listening.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(beginning)
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, daemon=True).start()
        slow = HttpClient(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30, wait=lambda _: None)
        try:
            with pytest.raises(SourceDown, match="its answer took longer than 1 s"):
                slow.get("things")
        finally:
            stop.set()
