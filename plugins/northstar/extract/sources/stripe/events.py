"""Stripe's events: which are read for each entity, their order, the objects before them, and a place on disk for many of them."""

import sqlite3
from collections.abc import Iterable
from itertools import groupby, permutations

import orjson

from northstar.extract.sources.http import Json, JsonObject
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
    "refunds": ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.refunded",
                "charge.dispute.closed"),
}  # fmt: skip
# the statuses that nothing follows
OVER = ("canceled", "incomplete_expired")
# events of one object in one second of which every order is tried
TRIED = 7
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
    return in_order(events_by_id.values())


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
        return in_order(orjson.loads(body) for (body,) in bodies)


def in_order(events: Iterable[JsonObject]) -> list[JsonObject]:
    """Events in the order in which they happened.

    Their time is in whole seconds, and the ids of one second are random. Within a second an object is created first and ends last; between
    them, each event follows the one that left what it changed (`previous_attributes`). Discounts come after the objects that have them.
    """
    by_object: dict[str | None, list[JsonObject]] = {}
    for event in sorted(events, key=lambda event: (event["created"], event["id"])):
        by_object.setdefault(event["data"]["object"].get("id"), []).append(event)
    chained: list[JsonObject] = []
    for of_object in by_object.values():
        seconds = [list(group) for _, group in groupby(of_object, key=lambda event: event["created"])]
        state: JsonObject | None = None
        for place, second in enumerate(seconds, 1):
            chained += _chained(second, state, seconds[place][0] if place < len(seconds) else None)
            state = chained[-1]["data"]["object"]
    return sorted(chained, key=lambda event: (event["created"], event["data"]["object"].get("object") == "discount"))


def _chained(events: list[JsonObject], before: JsonObject | None, following: JsonObject | None) -> list[JsonObject]:
    """The events of one object and second, given the object before them and the event after them."""
    chain: list[JsonObject] = []
    for _, group in groupby(sorted(events, key=_stage), key=_stage):
        of_stage = list(group)
        state = chain[-1]["data"]["object"] if chain else before
        if 1 < len(of_stage) <= TRIED:
            of_stage = max(map(list, permutations(of_stage)), key=lambda order: _links(order, state, following))
        chain += of_stage
    return chain


def _stage(event: JsonObject) -> int:
    if event["type"].endswith((".created", ".pending")):
        return 0
    return 2 if event["type"].endswith((".deleted", ".expired")) or event["data"]["object"].get("status") in OVER else 1


def _links(order: list[JsonObject], before: JsonObject | None, following: JsonObject | None) -> int:
    states = [before, *(event["data"]["object"] for event in order)]
    steps = [*zip(states, order, strict=False), (states[-1], following)]
    return sum(_builds_on(event, state) for state, event in steps if state is not None and event is not None)


def _builds_on(event: JsonObject, state: JsonObject) -> bool:
    previous_values = event["data"].get("previous_attributes")
    return bool(previous_values) and _holds(state, previous_values)


def _holds(state: Json, values: Json) -> bool:
    """Whether a state has these values, in all that they name."""
    if isinstance(values, dict) and isinstance(state, dict):
        return all(_holds(state.get(name), value) for name, value in values.items())
    if isinstance(values, list) and isinstance(state, list):
        return len(values) == len(state) and all(map(_holds, state, values))
    return bool(state == values)


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
