"""One way to talk to an HTTP API: time-outs, retries, Retry-After, a rate limit, a circuit that opens when the system is down.

A request is tried again after a time-out, a lost connection, half an answer, an answer that is not JSON, 429 and 5xx: after
0.5, 1, 2, ... seconds with jitter, or when Retry-After says. A system that failed `attempts` times in a row, or asks to wait longer
than a run can, is taken to be down: for the rest of the run the source fails at once instead of waiting again for each request.
Addresses in messages have no query and no secret.
"""

import base64
import contextlib
import email.utils
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from northstar.base.errors import NorthstarError, SourceDown

TIMEOUT_SECONDS = httpx.Timeout(60, connect=10)
ATTEMPTS = 6
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 300
SHORTEST_SECRET = 6
# the bounds of one answer, in bytes after unpacking and in seconds; a system that has more to say has pages
ANSWER_BYTES, ANSWER_SECONDS = 64 * 2**20, 300
# headers that describe how the body was sent, not what it is
TRANSFER_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
# what an API answers: its shape is checked where it is read
Json = Any
JsonObject = dict[str, Json]
# the query of a request's address
Parameters = Mapping[str, str | int | float | list[str] | None]
# httpx logs addresses with their queries
logging.getLogger("httpx").setLevel(logging.WARNING)


class Refused(NorthstarError):
    """The system answered that this request is not allowed or not valid (4xx). Asking again does not help."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class _TooLong(Exception):
    """An answer that is larger, or takes longer, than the bounds allow."""


class HttpClient:
    """A client for one API.

    headers: sent with each request, or a function that gives them, called anew after a 401 (a token that expired).
    per_second: the most requests in a second. wait: how to sleep (a test counts instead).
    """

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str] | Callable[[], dict[str, str]] | None = None,
        per_second: float | None = None,
        attempts: int = ATTEMPTS,
        timeout: httpx.Timeout | float = TIMEOUT_SECONDS,
        wait: Callable[[float], None] = time.sleep,
    ):
        self.base_url = base_url.rstrip("/")
        self._make_headers = headers if callable(headers) else lambda: dict(headers or {})
        self._headers: dict[str, str] | None = None
        self._interval = 1 / per_second if per_second else 0
        self._next_at = 0.0
        self._attempts, self._wait = attempts, wait
        self._down: str | None = None
        self._asked_to_wait: float | None = None
        self._clock_offset: float | None = None
        self._timeout = timeout
        self._client = self._connect()
        self.requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _connect(self) -> httpx.Client:
        # a redirect could carry the secret elsewhere
        return httpx.Client(timeout=self._timeout, headers={"Accept-Encoding": "gzip, deflate"})

    def get(self, path: str, params: Parameters | None = None) -> Json:
        """The JSON answer of a GET; `path` is below the base address, or a whole address on the same host (a next page's).

        Raises SourceDown, or Refused for a 4xx that asking again does not mend.
        """
        return self._request("GET", path, params=params).json()

    def post(self, path: str, body: JsonObject) -> Json:
        """The JSON answer of a POST that only asks (a log-in, a query). Raises as `get` does."""
        return self._request("POST", path, body=body).json()

    def now(self, path: str, params: Parameters | None = None) -> float:
        """The time by the system's own clock (the Date of its answers), in seconds since 1970; by our clock where it sends none.

        path: what to request when there was no request yet. Raises as `get` does.
        """
        if self._clock_offset is None:
            self._request("GET", path, params=params)
        return time.time() + (self._clock_offset or 0)

    def pages(self, path: str, params: Parameters | None = None) -> Iterator[Json]:
        """The JSON answers of a listing whose `Link` header names the next page.

        Raises as `get` does, and SourceDown when a page names itself as the next one.
        """
        addresses = set()
        following: str | None = path
        while following:
            response = self._request("GET", following, params=params)
            yield response.json()
            link = response.links.get("next") or {}
            # Sentry names a next page even where there is none, and says so in `results`
            following, params = (link.get("url") if link.get("results") != "false" else None), None
            if following and following in addresses:
                raise SourceDown(f"{_without_query(following)}: its pages repeat themselves; the next run tries again")
            addresses.add(following)

    def _request(
        self, method: str, path: str, params: Parameters | None = None, body: JsonObject | None = None
    ) -> httpx.Response:
        if self._down:
            raise SourceDown(self._down, self._asked_to_wait)
        url = self._url(path)
        reason, is_renewed = "", False
        attempt = 0
        delay: float | None = None
        while attempt < self._attempts:
            self._keep_to_rate()
            delay = None
            try:
                response = self._read_bounded(method, url, params, body)
                self._clock_offset = _seconds_ahead(response)
                if response.status_code == 401 and not is_renewed:
                    # the token may have expired: one more try with a new one, which does not count as a failure
                    is_renewed, self._headers = True, None
                    continue
                if response.status_code < 300:
                    response.json()
                    return response
                reason = f"it answered {response.status_code}"
                delay = _retry_after(response)
                is_limit = response.status_code == 403 and delay is not None
                if response.status_code not in RETRIED_STATUSES and not is_limit:
                    raise Refused(
                        f"{_without_query(url)}: {reason}{_refusal_message(response, self._current_headers())}",
                        response.status_code,
                    )
                if delay is not None and delay > LONGEST_WAIT_SECONDS:
                    reason += f" and asks to wait for {delay:,.0f} s"
                    break
            except _TooLong as exc:
                # the answer would be as long the next time
                reason = str(exc)
                break
            except httpx.TimeoutException:
                reason = "it did not answer in time"
            except httpx.TransportError as exc:
                cause = " ".join(str(exc).split())[:120]
                if "WRONG_VERSION_NUMBER" in cause:
                    raise NorthstarError(
                        f"{_without_query(url)}: what answers does not speak https; an address that ends in /http, such as "
                        "http://:key@127.0.0.1:8080/http, is asked without it"
                    ) from exc
                reason = f"the connection failed ({type(exc).__name__}{f': {cause}' if cause else ''})"
            except httpx.DecodingError:
                reason = "its answer is damaged"
            except ValueError:
                reason = "its answer is not JSON"
            attempt += 1
            if attempt < self._attempts:
                self._wait(delay if delay is not None else _backoff_seconds(attempt))
        times = f", {attempt} times" if attempt else ""
        self._down = f"{_without_query(url)}: {reason}{times}; the next run goes on where this one stopped"
        self._asked_to_wait = delay
        raise SourceDown(self._down, delay)

    def _read_bounded(
        self, method: str, url: str, params: Parameters | None, body: JsonObject | None
    ) -> httpx.Response:
        """The answer with its body, read within bounds of size and time. Raises _TooLong, and httpx's errors."""
        is_late = threading.Event()

        def hang_up() -> None:
            # a system that sends a byte now and then never exceeds the connection's own time-outs
            is_late.set()
            self._client.close()

        timer = threading.Timer(ANSWER_SECONDS, hang_up)
        timer.daemon = True
        timer.start()
        try:
            with self._client.stream(
                method, url, headers=self._current_headers(), params=params, json=body
            ) as response:
                content = bytearray()
                for part in response.iter_bytes():
                    content += part
                    if len(content) > ANSWER_BYTES:
                        raise _TooLong(f"its answer is larger than {ANSWER_BYTES // 2**20} MB")
            headers = [(n, v) for n, v in response.headers.multi_items() if n.lower() not in TRANSFER_HEADERS]
            return httpx.Response(
                response.status_code, headers=headers, content=bytes(content), request=response.request
            )
        except (httpx.HTTPError, httpx.StreamError, OSError, RuntimeError) as exc:
            if is_late.is_set():
                raise _TooLong(f"its answer took longer than {ANSWER_SECONDS} s") from exc
            raise
        finally:
            timer.cancel()
            if is_late.is_set():
                self._client = self._connect()

    def _url(self, path: str) -> str:
        if "://" not in path:
            return f"{self.base_url}/{path.lstrip('/')}"
        ours, theirs = urlsplit(self.base_url), urlsplit(path)
        if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            # the secret in the headers is for this host alone
            raise NorthstarError(
                f"{ours.netloc} names a next page on another host, {theirs.netloc}; it was not followed"
            )
        return path

    def _current_headers(self) -> dict[str, str]:
        if self._headers is None:
            self._headers = self._make_headers()
        return self._headers

    def _keep_to_rate(self) -> None:
        now = time.monotonic()
        if self._interval and now < self._next_at:
            self._wait(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._interval
        self.requests += 1


def _backoff_seconds(attempt: int) -> float:
    return FIRST_WAIT_SECONDS * float(2 ** (attempt - 1)) * random.uniform(0.5, 1)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the system asks to wait: from Retry-After, or until GitHub resets a limit that was used up. None where it asks for none."""
    header: str = response.headers.get("retry-after", "").strip()
    if header.isdigit():
        return float(header)
    if response.headers.get("x-ratelimit-remaining") == "0" and response.headers.get("x-ratelimit-reset", "").isdigit():
        return max(1.0, float(response.headers["x-ratelimit-reset"]) - time.time())
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _seconds_ahead(response: httpx.Response) -> float:
    """How far the system's clock is ahead of ours, in seconds."""
    try:
        return email.utils.parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _without_query(url: str) -> str:
    """An address without what may hold a secret: who logs in, and the query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _refusal_message(response: httpx.Response, headers: dict[str, str]) -> str:
    """The system's own message about a refusal, shortened. Systems have different error objects, but all have a message.

    A message that repeats the request repeats the key, so whatever was sent in a header or a log-in is masked.
    """
    try:
        body = response.json()
    except ValueError:
        return ""
    error = body.get("error", body) if isinstance(body, dict) else {}
    if isinstance(error, dict):
        error = error.get("message") or error.get("description") or error.get("detail")
    message = " ".join(str(error or "").split())
    for sent in _secret_texts(response.request, headers):
        message = message.replace(sent, "***")
    return f": {message[:200]}" if message else ""


def _secret_texts(request: httpx.Request, headers: dict[str, str]) -> list[str]:
    """The texts of a request that may be secret, longest first: the words of our own headers, also decoded from base64, and a log-in's values."""
    words = [word for value in headers.values() for word in (value, *value.split())]
    for word in list(words):
        # login and password of HTTP's basic authentication
        with contextlib.suppress(ValueError):
            plain = base64.b64decode(word, validate=True).decode()
            words += [plain, *plain.split(":", 1)]
    with contextlib.suppress(ValueError, httpx.RequestNotRead):
        body = json.loads(request.content or b"{}")
        words += [v for v in body.values() if isinstance(v, str)] if isinstance(body, dict) else []
    return sorted({word for word in words if len(word) >= SHORTEST_SECRET}, key=len, reverse=True)
