"""Subscriptions: a view of the pages that a reader has sent to himself, daily, weekly or when it changes, with its rows as a workbook.

What is due is put into the outbox (northstar.use.outbox): each address gets each occasion once, and what failed is tried again for a day. Where
a message may go is looked up when it is sent: an address that notify.yml no longer allows gets nothing, and neither has one whose role is gone.
"""

import hashlib
import json
from datetime import datetime
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.use import outbox
from northstar.use.marts import Marts, Published
from northstar.use.notify import Address, Channels, Message, read_channels, send_message
from northstar.use.pages import serve
from northstar.use.pages.choices import Choice
from northstar.use.pages.contents import pages_of
from northstar.use.pages.links import slug
from northstar.use.pages.spreadsheets import XLSX, write_workbook
from northstar.use.pages.tables import Table, read_table
from northstar.use.reports.send import SENT_FROM
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one

# what the outbox calls these messages
KIND = "subscription"
CADENCES = ("daily", "weekly", "change")
PERIODS = {"daily": "day", "weekly": "week"}
# the panels of the page Metrics that depend on the metric that is chosen
METRICS = ("metrics-about", "metrics-history", "metrics-restatements")
# characters of what a panel says in words
WORDS = 400


class Subscription(TypedDict):
    """A row of audit.subscriptions that has not ended."""

    subscription_id: int
    name: str
    page: str
    choice: Row
    cadence: str
    kind: str
    target: str
    token: str
    digest: str | None
    role: str | None


def panels_of(settings: Settings, page: str) -> list[str]:
    """The panels of a page that can be subscribed to, by its slug; none where the page cannot."""
    if page == "metrics":
        return list(METRICS)
    counts = {slug(content["title"]): len(content["panels"]) for content in pages_of(settings)}
    return [f"{page}-{number}" for number in range(counts.get(page, 0))]


def list_subscriptions(settings: Settings) -> list[Row]:
    """The subscriptions that have not ended, without their tokens."""
    with db.connect(settings, "publisher") as connection:
        if not _is_set_up(connection):
            return []
        return connection.execute(
            "select subscription_id, name, page, cadence, kind, target, role, made_at from audit.subscriptions where ended_at is null order by subscription_id"
        ).fetchall()


def end_subscription(settings: Settings, number: int) -> str:
    """End a subscription, whoever began it, and forget what of it waits to be sent; returns its name. Raises NorthstarError where none of that number goes on."""
    with db.connect(settings, "publisher") as connection:
        ended = _is_set_up(connection) and connection.execute(
            "update audit.subscriptions set ended_at = clock_timestamp() where subscription_id = %s and ended_at is null returning name", [number]
        ).fetchone()  # fmt: skip
        if not ended:
            raise NorthstarError(f"there is no subscription {number}; `northstar subscriptions list` shows them")
        connection.execute(
            "delete from audit.outbox where what = %s and about = %s and sent_at is null", [KIND, str(number)]
        )
        name: str = ended["name"]
        return name


def send_due(settings: Settings, at: datetime, progress: Progress = print) -> list[str]:
    """Send what is due at a moment; returns where it went. Raises NorthstarError when an address failed, after the others were sent to."""
    with db.connect(settings, "publisher") as connection:
        if not _is_set_up(connection):
            return []
        subscriptions = fetch_all_as(Subscription, connection.execute(
            "select subscription_id, name, page, choice, cadence, kind, target, token::text as token, digest, role from audit.subscriptions "
            "where ended_at is null order by subscription_id"
        ))  # fmt: skip
        everything = Marts(settings)
        published = everything.published() if subscriptions else None
        if published is None:
            return []
        marts_by_role = {None: everything} | {
            db.role_name(settings, db.reader_role(name)): Marts(settings, name) for name in settings.readers.roles
        }
        gone = [s for s in subscriptions if s["role"] not in marts_by_role]
        for subscription in gone:
            progress(f"subscription {subscription['subscription_id']} is not sent: readers.yml has no role for it")
        subscriptions = [s for s in subscriptions if s not in gone]
        channels = _with_routes(read_channels(settings), subscriptions, progress)
        by_id = {str(s["subscription_id"]): s for s in subscriptions if _route(s) in channels.routes}
        night = fetch_one(connection.execute("select max(as_of) as t from marts.publications where mode = 'nightly'"))[
            "t"
        ]
        for subscription in by_id.values():
            marts = marts_by_role[subscription["role"]]
            if occasion := _occasion(connection, marts, subscription, published, at, night):
                due = outbox.Due(
                    str(subscription["subscription_id"]), subscription["cadence"], occasion, _route(subscription)
                )
                outbox.put(connection, KIND, [due], channels, at)
        connection.commit()
        rows = [row for row in outbox.waiting(connection, KIND, at) if row["about"] in by_id]
        connection.commit()
        destinations, problems = [], []
        for row in rows:
            subscription = by_id[row["about"]]
            message = make_message(
                settings, channels, marts_by_role[subscription["role"]], subscription, row["instance"]
            )

            def send(address: Address, _: list[outbox.Waiting], message: Message = message) -> str | None:
                return send_message(settings, channels, address, message)

            _, sent_to, failed = outbox.send_each(connection, [row], channels, send, at)
            destinations += sent_to
            problems += failed
    if problems:
        raise NorthstarError("; ".join(f"could not send to {problem}" for problem in problems))
    return destinations


def _is_set_up(connection: Connection) -> bool:
    """Whether the warehouse knows subscriptions: an upgrade sets it up with the next run."""
    return bool(fetch_one(connection.execute("select to_regclass('audit.subscriptions') is not null as yes"))["yes"])


def _route(subscription: Subscription) -> str:
    return f"{KIND} {subscription['subscription_id']}"


def _with_routes(channels: Channels, subscriptions: list[Subscription], progress: Progress) -> Channels:
    """The channels with a route for each subscription whose address is allowed."""
    routes = dict(channels.routes)
    for subscription in subscriptions:
        kind, target = subscription["kind"], subscription["target"]
        if channels.may_subscribe(kind, target):
            routes[_route(subscription)] = [channels.entry(kind, target)]
        else:
            progress(
                f"subscription {subscription['subscription_id']} is not sent: notify.yml allows no subscriptions of {kind} {target}"
            )
    return channels.model_copy(update={"routes": routes})


def _occasion(
    connection: Connection,
    marts: Marts,
    subscription: Subscription,
    published: Published,
    at: datetime,
    night: datetime | None,
) -> str | None:
    """What makes a subscription due: the period that a nightly run has published, or the version whose values are others; None for nothing."""
    cadence = subscription["cadence"]
    if cadence == "change":
        digest = _digest(_tables(marts, subscription))
        if digest == subscription["digest"]:
            return None
        connection.execute(
            "update audit.subscriptions set digest = %s where subscription_id = %s",
            [digest, subscription["subscription_id"]],
        )
        return f"version {published.version}"
    start, end = marts.calendar.last_period(PERIODS[cadence], at)
    is_due = at.time() >= SENT_FROM and night is not None and night >= end
    return f"{cadence} {start:%Y-%m-%d}" if is_due else None


def _tables(marts: Marts, subscription: Subscription) -> list[Table]:
    choice, settings = Choice(**subscription["choice"]), marts.settings
    return [read_table(marts, name, choice) for name in panels_of(settings, subscription["page"])]


def _digest(tables: list[Table]) -> str:
    """A hash of the values, without those of periods that are not over: they change with every hour."""
    digest = hashlib.sha256()
    for table in tables:
        for row in table.rows:
            if row.get("is_complete", True):
                digest.update(json.dumps([row.get(name) for name in table.columns], default=str).encode())
    return digest.hexdigest()


def make_message(
    settings: Settings, channels: Channels, marts: Marts, subscription: Subscription, occasion: str
) -> Message:
    """The message of a subscription: what its panels say in words, its address, the way to end it, and the workbook."""
    tables = marts.steadily(lambda: _tables(marts, subscription))
    if not tables:
        raise NorthstarError(
            f"the page {subscription['page']!r} of subscription {subscription['subscription_id']} is not there any more"
        )
    first, pages = tables[0], (channels.pages or serve.url(settings)).rstrip("/")
    address, end = pages + dict(first.about)["Address"], f"{pages}/unsubscribe/{subscription['token']}"
    version = f"version {first.version.version:,}, data up to {first.version.as_of:%Y-%m-%d %H:%M} UTC"
    said = [f"{table.title}: {words[:WORDS]}" for table in tables if (words := dict(table.about).get("In words"))]
    text = "\n\n".join(
        [f"{subscription['name']}, {version}", *said, f"The page: {address}", f"No more of these: {end}"]
    )
    subject = f"{subscription['name']}: {version}"
    return Message(
        subject,
        text,
        attachments={f"{first.page}_v{first.version.version}.xlsx": (XLSX, write_workbook(*tables))},
        headers={"List-Unsubscribe": f"<{end}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        events=[{
            "event_action": "trigger", "dedup_key": f"northstar {_route(subscription)} {occasion}",
            "payload": {"summary": subject[:1024], "severity": "info", "source": "northstar", "custom_details": {"text": text[:20_000]}},
            "links": [{"href": address, "text": "the page"}, {"href": end, "text": "no more of these"}],
        }],
    )  # fmt: skip
