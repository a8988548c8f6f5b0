"""`/subscriptions` begins a subscription from the pages, and `/unsubscribe/TOKEN` ends one, without a password.

Opening the link of a message changes nothing, since scanners of mail open links: its page has a button, and mail programs send the POST themselves
(RFC 8058). A subscription begins with JSON only, which no other site's form can send.
"""

from collections.abc import Callable
from typing import TypedDict
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import psycopg
from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from psycopg.types.json import Jsonb

from northstar.base.allowance import Allowance
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.privacy.personal import redact
from northstar.use.marts import Marts
from northstar.use.notify import read_channels
from northstar.use.pages.choices import read_choice
from northstar.use.pages.door import UNSUBSCRIBE, read_body
from northstar.use.pages.links import ROOT, slug
from northstar.use.pages.rendering import TEMPLATES
from northstar.use.pages.subscriptions import CADENCES, panels_of
from northstar.warehouse import db

NAME_CHARACTERS = 60
A_MINUTE = 20
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


class Ways(TypedDict):
    """Where the home's notify.yml lets readers have views sent. mail: whether to addresses of `domains`, or to those of `addresses`."""

    domains: list[str]
    slack: list[str]
    webhook: list[str]


def add_subscribing(server: Flask, settings: Settings, marts: Callable[[], Marts]) -> None:
    """Let the server begin and end subscriptions. marts: gives what is read."""
    allowance, guesses = Allowance(A_MINUTE), Allowance(A_MINUTE)

    def ways() -> ResponseReturnValue:
        try:
            return jsonify(find_ways(settings))
        except NorthstarError as exc:
            # a notify.yml that says nothing that can be read
            return Response(str(exc), 503, TEXT)

    def subscribe() -> ResponseReturnValue:
        # a form of another site can send no JSON
        body = read_body()
        if body is None:
            return Response("no page sends this request", 400, TEXT)
        if not allowance.take(request.remote_addr or ""):
            return Response("too many subscriptions in a minute", 429, {**TEXT, "Retry-After": "60"})
        try:
            begin(
                settings,
                marts(),
                {name: str(body.get(name, "")) for name in ("name", "path", "cadence", "kind", "target")},
            )
        except NorthstarError as exc:
            return Response(str(exc), 400, TEXT)
        return Response("subscribed", 201, TEXT)

    def unsubscribe(token: UUID) -> ResponseReturnValue:
        if not guesses.take(request.remote_addr or ""):
            return Response("too many requests in a minute", 429, {**TEXT, "Retry-After": "60"})
        is_ended = request.method == "POST"
        try:
            name = _call(settings, f"select subscriptions.{'finish' if is_ended else 'name_of'}(%s) as name", [token])
        except NorthstarError as exc:
            return Response(str(exc), 503, TEXT)
        page = TEMPLATES.get_template("unsubscribe.html").render(name=name, is_ended=is_ended)
        return Response(page, 200 if name else 404, {**HTML, "Cache-Control": "no-store"})

    server.add_url_rule("/subscriptions", "subscribe", subscribe, methods=["POST"])
    server.add_url_rule("/subscriptions/ways", "subscription_ways", ways)
    server.add_url_rule(f"{UNSUBSCRIBE}<uuid:token>", "unsubscribe", unsubscribe, methods=["GET", "POST"])


def find_ways(settings: Settings) -> Ways:
    """Where views can be sent. No address of a person is named."""
    channels = read_channels(settings)
    targets = {(a.kind, a.target) for name in channels.routes for a in channels.addresses(name)}
    return {
        "domains": sorted(channels.subscribers) if channels.mail else [],
        "slack": sorted(target for kind, target in targets if kind == "slack"),
        "webhook": sorted(target for kind, target in targets if kind == "webhook"),
    }


def begin(settings: Settings, marts: Marts, asked: dict[str, str]) -> None:
    """Begin a subscription. asked: name, path (of the page, with what is chosen), cadence, kind, target. Raises NorthstarError for what is not offered."""
    address = urlsplit(asked["path"])
    page = address.path.strip("/") or slug(ROOT)
    if not panels_of(settings, page):
        raise NorthstarError("this page cannot be subscribed to")
    choice = read_choice(marts, page, dict(parse_qsl(address.query)))
    name = redact(" ".join(asked["name"].split()))[:NAME_CHARACTERS]
    if not name:
        raise NorthstarError("a subscription needs a name")
    if asked["cadence"] not in CADENCES:
        raise NorthstarError(f"a view is sent {', '.join(CADENCES[:-1])} or on {CADENCES[-1]}")
    if not read_channels(settings).may_subscribe(asked["kind"], asked["target"]):
        raise NorthstarError("notify.yml allows no subscriptions of this address")
    chosen = {
        "application": choice.application, "grain": choice.grain, "months": choice.months, "segment": choice.segment, "metric": choice.metric,
    }  # fmt: skip
    values = [name, page, Jsonb(chosen), asked["cadence"], asked["kind"], asked["target"]]
    _call(settings, "select subscriptions.subscribe(%s, %s, %s, %s, %s, %s)::text as name", values, marts.reader)


def _call(settings: Settings, statement: str, values: list[object], reader: str = "bi_reader") -> str | None:
    """What one of the functions returns, called as the reader."""
    try:
        with db.connect(settings, reader) as connection:
            # a reader's transactions are read-only unless they say otherwise
            connection.execute("set transaction read write")
            row = connection.execute(statement, values).fetchone()
    except psycopg.errors.ProgramLimitExceeded as exc:
        raise NorthstarError(exc.diag.message_primary) from exc
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction) as exc:
        # an upgrade sets the warehouse up with the next run
        raise NorthstarError("the warehouse knows no subscriptions before the next run") from exc
    name: str | None = row["name"] if row else None
    return name
