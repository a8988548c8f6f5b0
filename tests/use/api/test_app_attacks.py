"""What other sites, guessers and broken addresses get from the API and from /mcp: nothing, in the same words and with the same work."""

import hmac

import httpx
import pytest

from northstar.use.api import access as access_module
from northstar.use.api.app import MCP
from northstar.use.api.links import sign
from northstar.use.api.problems import MEDIA_TYPE
from tests.use.api.test_app import HOSTILE, QUESTIONS

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "status", "arguments": {}}}
SPEAKS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
# pages of other sites, of a name that was led to this address, of a file, of a frame without a name
ORIGINS = ("https://evil.example", "http://evil.example:8080", "null", "file://", "http://127.0.0.1", "")


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_of_a_browser_is_not_answered_even_with_a_token(client, address, origin):
    """No page asks the API: what names an origin was led here, such as by a name that now means this address."""
    forged = {"Origin": origin, "Host": origin.rpartition("/")[2] or "evil.example"}
    for answer in (
        client.get("/v1/status", headers=forged), client.post("/v1/query", json={"sql": "select 1"}, headers=forged),
        client.post(MCP, json=CALL, headers={**SPEAKS, **forged}),
    ):  # fmt: skip
        assert (
            answer.status_code == 403 and answer.json()["reason"] == "not_allowed" and "provenance" not in answer.text
        )
    for path in ("/v1/status", "/v1/query", MCP, "/v1/openapi.json", "/health"):
        asked = client.options(
            path,
            headers={
                **forged,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert asked.status_code in (403, 404, 405) and not [
            name for name in asked.headers if name.startswith("access-control")
        ]
    assert client.get("/v1/status").status_code == 200


def test_a_form_of_another_site_asks_nothing(client):
    """What a browser sends without asking first: forms and texts, which are never a question."""
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        for path in ("/v1/query", MCP):
            answer = client.post(path, content=b'{"sql": "select 1"}', headers={**SPEAKS, "Content-Type": kind})
            assert answer.status_code in (400, 406, 415), (path, kind, answer.status_code)


def test_links_and_statements_take_hostile_texts_as_they_are(client, stranger, access):
    """The parameters that the question of each path has beside its own: those of signed links, and the statement."""
    signed = sign(access, "/v1/metrics/mrr/value?grain=month", 1)
    for text in HOSTILE:
        for name in ("link", "signature"):
            answer = stranger.get("/v1/status", params={name: text})
            assert answer.status_code in (400, 401, 429) and len(answer.text) < 2_000
            changed = httpx.URL(signed).copy_set_param(name, text)
            assert stranger.get(str(changed)).status_code in (400, 401, 429)
        for path in QUESTIONS:
            answer = stranger.get(
                path.replace("{metric}", "mrr"),
                headers={"Authorization": f"Bearer t{text}".encode(errors="replace").replace(b"\0", b"")},
            )
            assert answer.status_code in (400, 401, 429) and answer.headers["Content-Type"] == MEDIA_TYPE
        answer = client.post("/v1/query", json={"sql": text})
        assert answer.status_code in (200, 400, 403) and "Traceback" not in answer.text and len(answer.text) < 7_000


def test_a_guess_costs_the_same_whether_or_not_there_is_such_an_id(built, access, monkeypatch):
    token = access.add_token("guessed at", ["metrics"])
    link = sign(access, "/v1/metrics/mrr/value?grain=month", 1)
    parameters = dict(httpx.URL(link).params)
    done = []

    class Counting:
        def __getattr__(self, name):
            def noted(*arguments, **more):
                done.append(name)
                return getattr(hmac, name)(*arguments, **more)

            return noted

    monkeypatch.setattr(access_module, "hmac", Counting())

    def work(ask) -> list:
        done.clear()
        assert ask() is None
        return list(done)

    def of_link(**changed):
        return lambda: access.caller_of_link("/v1/metrics/mrr/value", list({**parameters, **changed}.items()))

    identity = token.split("_")[1]
    known, unknown = (
        work(lambda name=name: access.caller_of_token(f"northstar_{name}_{'A' * 43}"))
        for name in (identity, "00000000")
    )
    assert known == unknown == ["compare_digest"]
    known, unknown, other = (
        work(of_link(signature="A" * 43)),
        work(of_link(link="00000000")),
        work(of_link(link="00000000", signature="A" * 43)),
    )
    assert known == unknown == other and known.count("compare_digest") == 1
