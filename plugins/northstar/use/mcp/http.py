"""The tools over streamable HTTP, at an address of the API: its tokens, scopes and limits count here as well."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.types import Receive, Send
from starlette.types import Scope as Connected

from northstar.base.settings import Settings
from northstar.use.answers.reading import Desk
from northstar.use.api.access import NOBODY, Caller
from northstar.use.mcp.server import make_server

# who asks in the running request, and what they may ask; nothing where nobody was let in
CALLER: ContextVar[Caller] = ContextVar("CALLER", default=NOBODY)


class Door:
    """An ASGI application that lets callers in and gives their messages to the server. Each request stands for itself: no session is kept.

    identify: who asks; it raises what the application answers to those who may nothing.
    """

    def __init__(self, settings: Settings, desk: Desk, identify: Callable[[Request], Caller]):
        self._identify = identify
        # `identify` answers no request of a browser's page, by whatever name it was led here; a proxy may give the host any name
        rules = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server = make_server(
            settings, desk, lambda: CALLER.get().scopes, lambda: CALLER.get().role, lambda: CALLER.get().id
        )
        server.streamable_http_app(json_response=True, stateless_http=True, transport_security=rules)
        self._manager: StreamableHTTPSessionManager = server.session_manager

    @asynccontextmanager
    async def open(self, _application: object) -> AsyncIterator[None]:
        """As long as this context lasts, messages are answered."""
        async with self._manager.run():
            yield

    async def __call__(self, connected: Connected, receive: Receive, send: Send) -> None:
        caller = CALLER.set(self._identify(Request(connected)))
        try:
            await self._manager.handle_request(connected, receive, send)
        finally:
            CALLER.reset(caller)
