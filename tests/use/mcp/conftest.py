"""The official client, connected to `northstar mcp` of the published small company."""

import json
import sys
from contextlib import contextmanager
from decimal import Decimal

import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client


class Asker:
    """Calls tools; an answer is its JSON, with exact numbers."""

    def __init__(self, portal, client):
        self._portal, self._client = portal, client

    def call(self, tool, **arguments):
        return self._portal.call(self._client.call_tool, tool, arguments)

    def __call__(self, tool, **arguments):
        result = self.call(tool, **arguments)
        answer = json.loads(result.content[0].text, parse_float=Decimal)
        assert ("refused" in answer) == result.is_error
        # the same for programs, with numbers as floats
        assert result.structured_content == json.loads(result.content[0].text)
        return answer

    def tools(self):
        return self._portal.call(self._client.list_tools).tools

    @property
    def instructions(self):
        return self._client.instructions


@contextmanager
def connected(server):
    """An Asker of a server: a transport, an address, or a server of this process."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:
        yield Asker(portal, client)


@pytest.fixture(scope="module")
def ask(built):
    command = ["-m", "northstar.cli", "mcp", "--home", str(built.home)]
    with connected(stdio_client(StdioServerParameters(command=sys.executable, args=command))) as asker:
        yield asker
