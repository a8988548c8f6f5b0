"""Access to the pages: who gets in as which role, and how much of the server one visitor can use.

Everybody needs a key or the password, or has signed on (at a trusted proxy, or at a provider: northstar.use.pages.sign_on), on this machine too: a proxy on it
looks just like its own browser. The size of requests, the number of guesses and the number of log lines are limited.
"""

import base64
import hmac
import logging
import traceback
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlencode

from flask import Flask, Response, abort, g, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from northstar.base.allowance import Allowance
from northstar.base.settings import Settings
from northstar.use.pages.serve import HEALTH, KEY, home_mark, key
from northstar.use.pages.sign_on import PATHS, add_sign_on, ask_to_sign_on, person_of_session
from northstar.use.people import OF_PASSWORD, NoRole, Person, person_of_proxy
from northstar.use.reads import note_read

USER = "reader"
# a link in a message ends its subscription without a password
UNSUBSCRIBE = "/unsubscribe/"
CALLBACK = "/_dash-update-component"
# what says nothing of the company
FILES = ("/assets/", "/_dash-component-suites/", "/_favicon", "/_dash-layout", "/_dash-dependencies", "/_reload-hash")
REMEMBERED_SECONDS = 30 * 86_400
# a page's largest request is 20 kB
REQUEST_BYTES = 256 * 1024
WRONG_A_MINUTE = 10
LINES_A_MINUTE = 20
# nothing is loaded from elsewhere, and no other page may frame these. Plotly and Dash set styles as they draw; scripts are allowed by hash
POLICY = (
    "default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOG = logging.getLogger(__name__)


def credentials(settings: Settings) -> dict[str, str]:
    """The header that a browser sends once its reader has given the password."""
    pair = f"{USER}:{settings.secret('pages_password')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def require_key(server: Flask, settings: Settings) -> None:
    """Ask everybody for the link's key, the cookie it leaves, or the password (user `reader`, secret `pages_password`), unless they have signed on.

    Who has signed on sees what their role sees, also with the cookie. Wrong guesses are limited by address. A browser with the cookie is not asked again, whatever others on its address try.
    """
    password, link_key = credentials(settings)["Authorization"].encode(), key(settings).encode()
    # cookies are the same for all ports: two homes on one machine must not replace each other's
    mark = home_mark(settings).rpartition(" ")[2]
    cookie = f"northstar_{mark}"
    add_sign_on(server, settings, mark)
    open_paths = PATHS if settings.readers.oidc else ()
    guesses, log_lines = Allowance(WRONG_A_MINUTE), Allowance(LINES_A_MINUTE)

    @server.before_request
    def _check_access() -> ResponseReturnValue | None:
        if request.path == HEALTH or request.path.startswith(UNSUBSCRIBE) or request.path in open_paths:
            return None
        try:
            person = person_of_proxy(settings.readers, request.remote_addr or "", request.headers)
            g.northstar_person = person or person_of_session(settings)
        except NoRole as exc:
            return Response(str(exc), 403, {"Content-Type": "text/plain; charset=utf-8"})
        if g.northstar_person is not None:
            return None
        if _is_equal(request.cookies.get(cookie), link_key):
            g.northstar_person = OF_PASSWORD
            return None
        address, authorization = request.remote_addr or "", request.headers.get("Authorization")
        has_link = request.method == "GET" and KEY in request.args
        if (authorization or has_link) and not guesses.is_left(address):
            return Response("too many wrong passwords", 429, {"Retry-After": "60", "Content-Type": "text/plain"})
        if has_link and _is_equal(request.args[KEY], link_key):
            g.enters = True
            # the key need not stay in the address bar, where it would be copied with the link
            other_arguments = {name: values for name, values in request.args.to_dict(flat=False).items() if name != KEY}
            return redirect("/" + request.path.lstrip("/") + _query(other_arguments), 303)
        if _is_equal(authorization, password):
            g.enters, g.northstar_person = True, OF_PASSWORD
            return None
        if authorization or has_link:
            guesses.take(address)
            if log_lines.take("refused"):
                LOG.warning("refused: a wrong password from %s", address)
        if settings.readers.oidc and not authorization and request.method == "GET" and _is_page():
            return ask_to_sign_on()
        return Response(
            "a password is needed: user reader, or the link that `make run` prints",
            401,
            {"WWW-Authenticate": 'Basic realm="Northstar"', "Content-Type": "text/plain"},
        )

    @server.after_request
    def _set_cookie(response: Response) -> Response:
        if g.get("enters"):
            response.set_cookie(
                cookie, link_key.decode(), max_age=REMEMBERED_SECONDS, httponly=True, samesite="Lax",
                secure=request.is_secure or request.headers.get("X-Forwarded-Proto") == "https",
            )  # fmt: skip
        return response

    @server.after_request
    def _note_read(response: Response) -> Response:
        person: Person | None = g.get("northstar_person")
        if person is not None and response.status_code == 200 and not request.path.startswith(FILES):
            note_read(settings, "pages", person.name, person.role, _what(), g.get("northstar_version"))
        return response


def _what() -> str:
    """What a request asked for: its address without a key, and what a callback of the pages was given."""
    arguments = {name: values for name, values in request.args.to_dict(flat=False).items() if name != KEY}
    body = request.get_json(silent=True) if request.path.endswith(CALLBACK) else None
    given = ""
    if isinstance(body, dict):
        values = {str(part.get("id")): part.get("value") for part in _parts(body) if "value" in part}
        given = f" {body.get('output')} {values}"
    return f"{request.path}{_query(arguments)}{given}"


def _parts(body: dict[str, object]) -> list[dict[str, object]]:
    """The inputs and states of a callback."""
    groups = [body.get("inputs"), body.get("state")]
    parts = [part for group in groups if isinstance(group, list) for part in group]
    return [part for each in parts for part in (each if isinstance(each, list) else [each]) if isinstance(part, dict)]


def person_of_request() -> Person:
    """Who asks. A request that nobody was let in with is refused."""
    person: Person | None = g.get("northstar_person")
    if person is None:
        abort(403)
    return person


def role_of_request() -> str | None:
    """The role of readers.yml as which this request is answered; None: as who sees everything."""
    return person_of_request().role


def _is_page() -> bool:
    """Whether a browser asks for a page to show, and not for a part of one."""
    mode = request.headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode else "text/html" in request.headers.get("Accept", "")


def limit_requests(server: Flask, callbacks: Callable[[], Collection[str]]) -> None:
    """Refuse requests that no page of ours makes, before they cost anything, and log failures in few lines.

    callbacks: gives the names of the pages' callbacks.
    """
    server.config["MAX_CONTENT_LENGTH"] = REQUEST_BYTES
    lines, places = Allowance(LINES_A_MINUTE), Allowance(1)

    @server.before_request
    def _refuse_null_characters() -> Response | None:
        # Postgres has no text with one
        given = (*request.args.items(multi=True), *request.form.items(multi=True))
        if "\0" in request.path or any("\0" in text for pair in given for text in pair):
            return Response(
                "no page has null characters in its addresses and forms", 400, {"Content-Type": "text/plain"}
            )
        return None

    @server.before_request
    def _refuse_unknown_callbacks() -> Response | None:
        if not request.path.endswith(CALLBACK):
            return None
        body = read_body()
        if body is None or str(body.get("output")) not in callbacks() or not _is_callback(body):
            return Response("no page sends this request", 400, {"Content-Type": "text/plain"})
        return None

    @server.errorhandler(Exception)
    def _log_failure(exc: Exception) -> Response | HTTPException:
        if isinstance(exc, HTTPException):
            return exc
        place = traceback.extract_tb(exc.__traceback__)[-1]
        # a traceback once a minute for each place in the code, so that nobody can fill the disk by repeating a request
        if lines.take("all") and places.take(f"{type(exc).__name__} {place.filename}:{place.lineno}"):
            LOG.error("%s %s failed", request.method, request.path[:200], exc_info=exc)
        return Response("the request failed; the log of the pages says why", 500, {"Content-Type": "text/plain"})


def read_body() -> dict[str, object] | None:
    """The object that a request has as JSON; None for anything else, however deep it is nested."""
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        return None
    return body if isinstance(body, dict) else None


def add_headers(server: Flask, scripts: Callable[[], Sequence[str]]) -> None:
    """Have the browser run only our scripts, and let no other page frame ours. scripts: gives the hashes of the scripts within the pages."""

    @server.after_request
    def _set_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        # read each time: Dash adds scripts of its own when the first page is drawn
        response.headers["Content-Security-Policy"] = POLICY.format(scripts=" ".join(scripts()))
        return response


def add_health(server: Flask, settings: Settings) -> None:
    """An address that says that this home's pages are there, and nothing else."""
    server.add_url_rule(HEALTH, "health", lambda: Response(home_mark(settings), 200, {"Content-Type": "text/plain"}))


def _is_equal(value: str | None, expected: bytes) -> bool:
    return value is not None and hmac.compare_digest(value.encode(errors="replace"), expected)


def _is_callback(body: dict[str, object]) -> bool:
    """Whether a request has the shape of Dash's: lists of inputs and states, each with an id."""
    return all(
        isinstance(parts := body.get(name, []), list)
        and all(isinstance(part, list) or (isinstance(part, dict) and "id" in part) for part in parts)
        for name in ("inputs", "state")
    )


def _query(arguments: dict[str, list[str]]) -> str:
    return f"?{urlencode(arguments, doseq=True)}" if arguments else ""
