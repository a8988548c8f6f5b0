"""The tools over HTTP: the API's tokens and scopes decide who asks what, each request for itself."""

import json

import httpx2
import pytest
from mcp import MCPError
from mcp.client.streamable_http import streamable_http_client

from northstar.use.api.access import FILE, Access
from northstar.use.explain.recorded import record_queries
from tests.use.api.conftest import address_of, serving_api
from tests.use.mcp.conftest import connected


@pytest.fixture(scope="module")
def address(built):
    with serving_api(built) as server:
        yield f"{address_of(server)}/mcp"
    (built.home / FILE).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def access(built):
    return Access(built)


def transport(address, token):
    """The official client's transport, with a token."""
    return streamable_http_client(
        address, http_client=httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60)
    )


def test_what_a_token_may_ask_is_what_its_scopes_say(address, access, built):
    record_queries(built)
    few, all_of_it = access.add_token("few", ["metrics"]), access.add_token("all of it", ["metrics", "rows", "sql"])
    with connected(transport(address, all_of_it)) as everything, connected(transport(address, few)) as some:
        assert everything("get_value", metric="mrr") == some("get_value", metric="mrr")
        assert everything("query", sql="select 1 as one")["rows"] == [[1]]
        assert some("query", sql="select 1 as one")["refused"] == "not_allowed"
        assert some("explain", metric="mrr", with_rows=True)["refused"] == "not_allowed"
        # the one with more rights in between changes nothing
        assert everything("explain", metric="mrr", with_rows=True)["sides"] and some("status")["metrics"] > 100
        access.revoke_token("few")
        with pytest.raises(MCPError):
            some("status")


def call(tool="status", **arguments):
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def test_nobody_is_let_in_without_a_valid_token(address, access, caplog):
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    link = access.add_link("/v1/status", [], "metrics")
    with httpx2.Client(headers=headers, timeout=60) as client:
        for url, more in (
            (address, {}), (address, {"Authorization": "Bearer northstar_00000000_x"}), (address, {"Authorization": "Basic abc"}),
            (f"{address}?{link.partition('?')[2]}", {}),
        ):  # fmt: skip
            answer = client.post(url, json=call(), headers=more)
            assert answer.status_code == 401 and "provenance" not in answer.text
        token = access.add_token("raw", ["metrics"])
        allowed = {"Authorization": f"Bearer {token}"}
        answer = client.post(address, json=call(), headers=allowed)
        assert answer.status_code == 200 and json.loads(answer.json()["result"]["content"][0]["text"])["provenance"]["version"] == 1  # fmt: skip
        # a page of another site is refused, token or not, and what it may send is never JSON
        assert (
            client.post(address, json=call(), headers={**allowed, "Origin": "https://example.com"}).status_code == 403
        )
        assert client.post(address, content=json.dumps(call()), headers={**allowed, "Content-Type": "text/plain"}).status_code in (400, 415)  # fmt: skip
        for body, status in ((b"{", 400), (b"[" * 50_000, 400), (b'{"jsonrpc": "2.0"}', 400), (b"x" * 200_000, 413)):
            answer = client.post(address, content=body, headers={**allowed, "Content-Type": "application/json"})
            assert answer.status_code == status and len(answer.text) < 5_000, (body[:30], answer.status_code)
        assert client.post(address, json=call(), headers=allowed).status_code == 200
    assert token.rpartition("_")[2] not in caplog.text
