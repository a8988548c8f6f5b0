"""What one request may cost before it is understood, and what the log has of it."""

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from northstar.base.escaping import make_visible
from northstar.use.api.problems import problem

# the longest statement, as JSON with its escapes
BODY_BYTES = 128 * 1024
# an address with its query, and headers
HEAD_BYTES = 48 * 1024
# until the head of a request is whole, and until its body is
HEAD_SECONDS, BODY_SECONDS = 10.0, 10.0
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class TooMuch(Exception):
    """A body that is larger than any question's, or comes too slowly."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


class Limits:
    """Middleware: bounds a request's body in size and time, adds headers, and writes one line to the log, without the address's query.

    tell: gets the method, the path and the error of a request that failed.
    """

    seconds = BODY_SECONDS

    def __init__(self, app: ASGIApp, log: logging.Logger, tell: Callable[[str, str, Exception], None]):
        self.app, self.log, self.tell = app, log, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0
        received = 0
        scope.setdefault("state", {})

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        async def receive_bounded() -> Message:
            nonlocal received
            try:
                message = await asyncio.wait_for(receive(), max(0.0, began + self.seconds - time.monotonic()))
            except TimeoutError as exc:
                raise TooMuch(408, f"the request took longer than {self.seconds:g} s to arrive") from exc
            received += len(message.get("body", b""))
            if received > BODY_BYTES:
                raise TooMuch(413, f"a request has at most {BODY_BYTES >> 10} kB")
            return message

        try:
            body = await _read(receive_bounded)
            await self.app(scope, _Replay(body, receive), send_noted)
        except TooMuch as exc:
            answer = problem(exc.status, "too_much", exc.detail, headers={"Connection": "close"})
            await answer(scope, receive, send_noted)
        except Exception as exc:
            self.tell(scope["method"], scope["path"], exc)
            if not status:
                answer = problem(500, "broken", "the request failed; the log of the API says why")
                await answer(scope, receive, send_noted)
        finally:
            caller = scope["state"].get("caller")
            self.log.info(
                "%s %s %s %.0f ms %s", scope["method"], make_visible(scope["path"])[:200], status, (time.monotonic() - began) * 1000,
                caller.id if caller else "nobody",
            )  # fmt: skip


async def _read(receive: Receive) -> bytes:
    """The whole body of a request."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


class _Replay:
    """Gives an application the body that was read, and then what comes after it."""

    def __init__(self, body: bytes, receive: Receive):
        self.body, self.receive, self.is_given = body, receive, False

    async def __call__(self) -> Message:
        if self.is_given:
            return await self.receive()
        self.is_given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


class Protocol(H11Protocol):
    """uvicorn's protocol, which waits for the head of a request for so long and no longer, and as long for a client that does not read its answer."""

    seconds = HEAD_SECONDS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ):
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn's own log of requests has whole addresses, with the signatures of links, wherever a handler is there to take it
        self.access_log = False
        self._known_cycle: RequestResponseCycle | None = None
        self._unread = 0
        self._watch = self.loop.call_later(self.seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """End a connection on which no request has begun since the last look and none is being answered, or nothing of an answer was read."""
        is_same, unread = self.cycle is self._known_cycle, self.transport.get_write_buffer_size()
        if is_same and unread and unread == self._unread:
            self.transport.abort()
            return
        if is_same and (self.cycle is None or self.cycle.response_complete) and not unread:
            self.transport.close()
            return
        self._known_cycle, self._unread = self.cycle, unread
        self._watch = self.loop.call_later(self.seconds, self._look)
