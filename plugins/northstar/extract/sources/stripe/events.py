"""Stripe's events: which are read for each entity, their order, the objects before them, and a place on disk for many of them."""

import sqlite3

import orjson

from northstar.extract.sources.http import JsonObject
from northstar.extract.sources.stripe.api import Api
from northstar.extract.sources.stripe.forms import id_of

EVENTS = {
    "accounts": ("customer.created", "customer.updated", "customer.deleted"),
    "subscriptions": (
        "customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
        "customer.subscription.paused", "customer.subscription.resumed", "customer.subscription.pending_update_applied",
        "customer.discount.created", "customer.discount.updated", "customer.discount.deleted",
    ),
    "charges": ("charge.pending", "charge.succeeded", "charge.failed", "charge.captured", "charge.updated", "charge.expired"),
    "refunds": ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.dispute.closed"),
}  # fmt: skip
# the values before an event, for kinds of events that do not carry them
BEFORE: dict[str, JsonObject] = {
    "customer.subscription.deleted": {"status": "active", "ended_at": None},
    "customer.subscription.paused": {"status": "active"},
    "customer.subscription.resumed": {"status": "paused"},
}


def events_between(api: Api, entity: str, start: int, end: int) -> list[JsonObject]:
    """The events about an entity in a span of time, in their order."""
    events_by_id: dict[str, JsonObject] = {}
    for kind in EVENTS[entity]:
        for page in api.pages("events", {"type": kind, "created[gte]": start, "created[lt]": end}):
            # pages may repeat an event while new ones come
            events_by_id.update({event["id"]: event for event in page})
    return sorted(events_by_id.values(), key=event_order)


def spool_events(api: Api, entity: str, start: int, end: int) -> "Spool":
    """The same events on disk: a long span may have more than fit into memory."""
    spool = Spool()
    for kind in EVENTS[entity]:
        for page in api.pages("events", {"type": kind, "created[gte]": start, "created[lt]": end}):
            spool.add(page)
    return spool


class Spool:
    """Events on disk, in a private file that is deleted with this object."""

    def __init__(self) -> None:
        # each batch is read by a thread of its own
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute(
            "create table events (about text, created int, id text, body blob, primary key (about, created, id)) without rowid"
        )
        self._file.execute("create index by_time on events (created)")

    def add(self, events: list[JsonObject]) -> None:
        """Store events. An event that is there already changes nothing."""
        records = [(_about(event), event["created"], event["id"], orjson.dumps(event)) for event in events]
        self._file.executemany("insert or replace into events values (?, ?, ?, ?)", records)

    def between(self, start: int, end: int) -> list[JsonObject]:
        """The events of a span of time, in their order."""
        return self._select("created >= ? and created < ?", start, end)

    def about(self, *names: str) -> list[JsonObject]:
        """The events about subscriptions, or about customers' own discounts, in their order."""
        return self._select(f"about in ({', '.join('?' * len(names))})", *names)

    def _select(self, where: str, *values: str | int) -> list[JsonObject]:
        bodies = self._file.execute(f"select body from events where {where}", values)
        return sorted((orjson.loads(body) for (body,) in bodies), key=event_order)


def event_order(event: JsonObject) -> tuple[int, bool, str]:
    """The sort key of an event: its time; within a second a subscription is created before anything else happens to it."""
    return event["created"], event["type"] != "customer.subscription.created", event["id"]


def object_before(event: JsonObject) -> JsonObject:
    """An event's object as it was before the event."""
    previous_values: JsonObject = event["data"].get("previous_attributes") or BEFORE.get(event["type"], {})
    return _with_values(event["data"]["object"], previous_values)


def _with_values(thing: JsonObject, previous_values: JsonObject) -> JsonObject:
    return thing | {
        name: _with_values(thing[name], value)
        if isinstance(value, dict) and isinstance(thing.get(name), dict)
        else value
        for name, value in previous_values.items()
    }


def _about(event: JsonObject) -> str:
    """The id of what an event is about: its subscription, or the customer for a customer's own discount."""
    thing = event["data"]["object"]
    if thing.get("object") != "discount":
        name: str = thing["id"]
        return name
    return thing.get("subscription") or id_of(thing.get("customer")) or ""
