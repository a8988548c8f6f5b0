"""Webhook deliveries in bulk: a directory of newline-delimited deliveries of Stripe or Umami, which land as if they came from their API.

    system: webhooks
    connection: lake            # where the store needs credentials, as for `files`
    options:
      path: s3://lake/stripe-webhooks   # *.jsonl or *.ndjson below it, compressed or not, one delivery in a line
      of: stripe                # stripe: its event objects as they were posted; umami: events as its API tells them, with visitId,
                                # and distinctId and data where there are any
      system_options: {...}     # the options of that system, such as plan_tiers or websites

Deliveries may come twice, late and in any order. A delivery is about a customer (Stripe) or a visit (Umami). When a new one comes,
the rows of its customer or visit are made again from all of its deliveries, in the order of their time, so that the result does not
depend on the order in which they came. A new file costs one scan of the directory, however many entities are read; without new files
nothing is read. Memory holds the deliveries of one customer or visit at a time. A line that is no delivery goes to quarantine with its
file and line number, without its content; so does a delivery of Stripe's test mode, unless system_options have test_mode: true.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator
from typing import cast

from northstar.base import exact_json
from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.contract import entities
from northstar.extract.sources import stripe, umami
from northstar.extract.sources.declared import ContractRow, FindLanded, Page, Source, State, Totals, check_options
from northstar.extract.sources.files import SourceFile, Storage, list_files, read_lines, storage_options
from northstar.extract.sources.http import Json, JsonObject, Parameters, Refused
from northstar.extract.sources.packed import format_of
from northstar.extract.sources.stripe.connector import Stripe, require_play_money_allowed
from northstar.extract.sources.stripe.events import EVENTS, in_order
from northstar.extract.sources.stripe.forms import id_of, time_of
from northstar.extract.sources.stripe.terms import SubscriptionRow, from_landed

ENTITIES = stripe.ENTITIES + umami.ENTITIES
OPTIONS = {"path", "of", "system_options"}
# 2: as of stripe
READING = 2
# a page ends with the first customer or visit after so many rows
ROWS = 5_000


def connect(source: Source, connection: Connection) -> "Webhooks":
    """A directory of deliveries. Raises NorthstarError for options that are wrong or missing."""
    check_options(source, OPTIONS)
    kinds: dict[str, type[StripeDeliveries] | type[UmamiDeliveries]] = {
        "stripe": StripeDeliveries,
        "umami": UmamiDeliveries,
    }
    if source.options.get("of") not in kinds or not source.options.get("path"):
        raise NorthstarError(f"source {source.name}: give `path`, and `of`: {' or '.join(kinds)}")
    system_options = dict(source.options.get("system_options") or {})
    system = Source(source.name, source.options["of"], options=system_options, is_production=source.is_production)
    check_options(system, {"stripe": stripe.OPTIONS, "umami": umami.OPTIONS}[system.system])
    if system_options.get("test_mode"):
        require_play_money_allowed(system, "it asks for deliveries of Stripe's test mode")
    return Webhooks(source, kinds[system.system](system), storage_options(connection) if source.connection else None)


class Webhooks:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    find_landed: FindLanded = staticmethod(lambda *_: [])

    def __init__(self, source: Source, deliveries: "StripeDeliveries | UmamiDeliveries", storage: Storage | None):
        self.source, self.deliveries, self.storage = source, deliveries, storage
        self._spool: _Spool | None = None

    def check(self) -> str:
        """Lists the directory."""
        return f"webhooks of {self.deliveries.source.system}: {len(self._files()):,} files of deliveries"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The rows of all customers or visits in new files. The files count as read once all of these rows have landed."""
        if entity not in self.deliveries.entities:
            return
        files, fingerprints = self._files(), (state or {}).get("files") or {}
        new_files = [file for file in files if fingerprints.get(file.path) != file.fingerprint]
        if not new_files:
            return
        spool = self._collect(files, new_files)
        # reported once, with the first of the entities
        if entity == next(n for n in entities() if n in self.deliveries.entities and n in self.source.entities):
            for places in spool.bad_places():
                yield Page([{"delivery": place} for place in places], None)
        self.deliveries.charge_of = spool.charge_of
        rows: list[ContractRow] = []
        for bodies in spool.deliveries():
            rows += self.deliveries.rows(entity, [_parse(body) or {} for body in bodies])
            if len(rows) >= ROWS:
                yield Page(self._correct_rows(entity, rows), None)
                rows = []
        yield Page(self._correct_rows(entity, rows), {"files": {file.path: file.fingerprint for file in files}})

    def totals(self, entity: str, state: State | None) -> Totals:
        """None: a directory has no totals of its own."""
        return {}

    def _files(self) -> list[SourceFile]:
        files = list_files(self.source.options["path"], "**/*", self.storage)
        return [file for file in files if format_of(file.path) == "jsonl"]

    def _collect(self, files: list[SourceFile], new_files: list[SourceFile]) -> "_Spool":
        """All deliveries of the customers or visits in new files: collected for the first of the entities, and reused for the others."""
        if self._spool is None or not self._spool.is_of(files, new_files):
            self._spool = _Spool(self.deliveries, files, new_files)
        return self._spool

    def _correct_rows(self, entity: str, rows: list[ContractRow]) -> list[ContractRow]:
        """The subscription rows, fit to replace those that earlier deliveries had led to, and the rows that end those that are gone.

        A landed row that a late delivery made wrong ends where it begins. A row that replaces a landed one is never older than it.
        """
        if entity != "subscriptions":
            return rows
        # cast: these are what StripeDeliveries gives for this entity
        new_rows = cast(list[SubscriptionRow], rows)
        landed_rows = self.find_landed(
            "subscriptions", "subscription_id", sorted({row["subscription_id"] for row in new_rows})
        )
        landed_by_key = {(row["subscription_item_id"], row["valid_from"]): row for row in map(from_landed, landed_rows)}
        for row in new_rows:
            earlier = landed_by_key.pop((row["subscription_item_id"], row["valid_from"]), None)
            if earlier and row["updated_at"] < earlier["updated_at"]:
                row["updated_at"] = earlier["updated_at"]
        return rows + [
            row | {"valid_to": row["valid_from"]} for row in landed_by_key.values() if row["valid_to"] != row["valid_from"]
        ]  # fmt: skip


class _Spool:
    """All deliveries of the customers or visits that new files name, on disk."""

    def __init__(
        self, deliveries: "StripeDeliveries | UmamiDeliveries", files: list[SourceFile], new_files: list[SourceFile]
    ):
        self._contents = _fingerprints(files), _fingerprints(new_files)
        # a database without a name is a private file that is deleted with the connection; landing reads in threads, one after the other
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(
            "create table roots (root text primary key) without rowid; create table bad (place text);"
            "create table deliveries (root text, id text, body blob, primary key (root, id)) without rowid;"
            "create table payments (payment_intent text primary key, charge text) without rowid"
        )
        names = _fingerprints(new_files)
        for file in new_files:
            self._add(deliveries, file, is_new=True)
        for file in files:
            if file.path not in names:
                self._add(deliveries, file, is_new=False)

    def is_of(self, files: list[SourceFile], new_files: list[SourceFile]) -> bool:
        """Whether it was collected from these files, with these as the new ones."""
        return self._contents == (_fingerprints(files), _fingerprints(new_files))

    def bad_places(self) -> Iterator[list[str]]:
        """The places (file:line) in new files where a line is no delivery, at most ROWS at a time."""
        places = self._database.execute("select place from bad order by rowid")
        return iter(lambda: [place for (place,) in places.fetchmany(ROWS)], [])

    def deliveries(self) -> Iterator[list[bytes]]:
        """The deliveries of each customer or visit, as they came."""
        for (root,) in self._database.execute("select root from roots order by root"):
            bodies = self._database.execute("select body from deliveries where root = ? order by id", [root])
            yield [body for (body,) in bodies]

    def charge_of(self, payment_intent: str) -> str | None:
        """The charge of a payment intent, where a delivery names both."""
        found = self._database.execute(
            "select charge from payments where payment_intent = ?", [payment_intent]
        ).fetchone()
        return found[0] if found else None

    def _add(self, deliveries: "StripeDeliveries | UmamiDeliveries", file: SourceFile, is_new: bool) -> None:
        for number, line in enumerate(read_lines(file), 1):
            if not line.strip():
                continue
            delivery = _parse(line)
            if delivery is None or not deliveries.is_delivery(delivery):
                if is_new:
                    self._database.execute("insert into bad values (?)", [f"{file.path}:{number}"])
                continue
            deliveries.learn(delivery)
            if payment := deliveries.payment(delivery):
                self._database.execute("insert or replace into payments values (?, ?)", payment)
            root = deliveries.root(delivery)
            if not isinstance(root, str):
                continue
            if is_new:
                self._database.execute("insert or ignore into roots values (?)", [root])
            self._database.execute(
                "insert or replace into deliveries select ?1, ?2, ?3 where exists (select 1 from roots where root = ?1)",
                [root, delivery["id"], line],
            )
        self._database.commit()


def _fingerprints(files: list[SourceFile]) -> dict[str, str]:
    return {file.path: file.fingerprint for file in files}


def _no_charge(payment_intent: str) -> str | None:
    return None


class StripeDeliveries:
    """Stripe's events, grouped by their customer, or by their charge where there is no customer.

    charge_of: the charge of a payment intent, as far as deliveries say it.
    """

    entities = stripe.ENTITIES

    def __init__(self, source: Source):
        self.source = source
        self.charge_of: Callable[[str], str | None] = _no_charge
        # the newest version of each price and coupon, with its moment
        self._shared: dict[str, tuple[tuple[int, str], JsonObject]] = {}

    def is_delivery(self, delivery: JsonObject) -> bool:
        """Whether it is an event of Stripe's, and of real money."""
        return (
            (delivery.get("livemode", True) is True or bool(self.source.options.get("test_mode")))
            and isinstance(delivery.get("id"), str) and isinstance(delivery.get("created"), int) and isinstance(delivery.get("type"), str)
            and isinstance(delivery.get("data"), dict) and isinstance(delivery["data"].get("object"), dict)
        )  # fmt: skip

    def root(self, delivery: JsonObject) -> str | None:
        """The customer or charge; None for what is about neither (a price, a payout)."""
        thing = delivery["data"]["object"]
        name: str | None = thing.get("id")
        if thing.get("object") == "customer":
            return name
        if thing.get("object") in ("refund", "dispute"):
            return id_of(thing.get("charge")) or name
        return id_of(thing.get("customer")) or (name if thing.get("object") == "charge" else None)

    def learn(self, delivery: JsonObject) -> None:
        """Keep what belongs to no customer: the newest version of each price and coupon."""
        thing, moment = delivery["data"]["object"], (delivery["created"], delivery["id"])
        # deliveries may be read in any order
        name = f"{thing.get('object')}s/{thing.get('id')}"
        if thing.get("object") in ("price", "coupon") and moment >= self._shared.get(name, ((0, ""), {}))[0]:
            self._shared[name] = moment, thing

    def payment(self, delivery: JsonObject) -> tuple[str, str] | None:
        """A payment intent and its charge, where the delivery names both."""
        thing = delivery["data"]["object"]
        names = {
            "charge": (id_of(thing.get("payment_intent")), thing.get("id")),
            "payment_intent": (thing.get("id"), id_of(thing.get("latest_charge"))),
        }
        payment_intent, charge = names.get(thing.get("object"), (None, None))
        is_paid = thing.get("status") == "succeeded"
        return (payment_intent, charge) if payment_intent and charge and is_paid else None

    def rows(self, entity: str, events: list[JsonObject]) -> list[ContractRow]:
        """The rows of one customer or charge, each as the last event leaves it."""
        events = in_order(events)
        objects = {name: thing for name, (_, thing) in self._shared.items()}
        for event in events:
            thing = event["data"]["object"]
            objects[f"{thing.get('object')}s/{thing.get('id')}"] = thing
        system = Stripe(self.source, _DeliveredObjects(objects, self.charge_of))
        system.history.learn(events)
        key = entities()[entity].key
        rows_by_key: dict[tuple[object, ...], ContractRow] = {}
        for event in events:
            if event["type"] in EVENTS[entity]:
                try:
                    rows = system.event_rows(entity, event)
                except Refused:
                    # deliveries hold no more than the first items of a subscription: it goes to quarantine, since its other columns are missing
                    rows = [{"subscription_id": id_of(event["data"]["object"]), "delivery": event["id"]}]
                rows_by_key.update({tuple(row.get(name, event["id"]) for name in key): row for row in rows})
        if entity == "subscriptions" and events:
            # a discount may end after the last delivery; a later one makes these rows anew
            read_at = time_of(events[-1]["created"])
            for row in system.history.advance(math.inf):
                rows_by_key[row["subscription_item_id"], row["valid_from"]] = {**row, "updated_at": read_at}
        return list(rows_by_key.values())


class UmamiDeliveries(umami.Events):
    """Umami's events, grouped by their visit."""

    entities = umami.ENTITIES

    def __init__(self, source: Source):
        self.source = source
        self.charge_of: Callable[[str], str | None] = _no_charge

    def is_delivery(self, delivery: JsonObject) -> bool:
        """Whether it is an event of Umami's."""
        names = ("id", "websiteId", "sessionId", "visitId", "createdAt")
        return all(isinstance(delivery.get(name), str) for name in names) and isinstance(delivery.get("eventType"), int)

    def root(self, delivery: JsonObject) -> str:
        """The visit."""
        visit: str = delivery["visitId"]
        return visit

    def learn(self, delivery: JsonObject) -> None:
        """Nothing: an event needs no other."""

    def payment(self, delivery: JsonObject) -> tuple[str, str] | None:
        """None: nobody pays."""
        return None

    def rows(self, entity: str, events: list[JsonObject]) -> list[ContractRow]:
        """The rows of one visit."""
        events.sort(key=lambda e: (e["createdAt"], e["id"]))
        views = [e["id"] for e in events if e["eventType"] == umami.VIEW]
        rows = [
            self.row(
                umami.event_of_api(event, event, event["visitId"], event["id"] in views[:1]),
                event.get("data") or {},
                {},
            )
            for event in events
        ]
        return [row for row in rows if row]


class _DeliveredObjects:
    """A stand-in for an HttpClient, without a network: it answers as Stripe would, from the objects that were delivered."""

    def __init__(self, objects: dict[str, JsonObject], charge_of: Callable[[str], str | None]):
        self.objects, self.charge_of = objects, charge_of

    def get(self, path: str, params: Parameters | None = None) -> Json:
        if path in self.objects:
            return self.objects[path]
        kind, _, name = path.partition("/")
        if kind == "payment_intents" and (charge := self.charge_of(name)):
            return {"id": name, "latest_charge": charge}
        raise Refused(f"{path} is in no delivery", 404)

    def now(self, path: str, params: Parameters | None = None) -> float:
        """Raises Refused: no server answers, so no clock is known."""
        raise Refused(f"{path} is in no delivery", 404)


def _parse(line: bytes) -> JsonObject | None:
    try:
        delivery = exact_json.loads(line)
    except ValueError:
        return None
    return delivery if isinstance(delivery, dict) else None
